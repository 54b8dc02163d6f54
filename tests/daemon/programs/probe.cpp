// The pages of probe.md on Debian's libfcgi.

#include <fcgio.h>

#include <cctype>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <unistd.h>

namespace {

constexpr size_t PATTERN = 65521;

std::string pattern() {
  std::string bytes(PATTERN, '\0');
  for (size_t at = 0; at < PATTERN; ++at)
    bytes[at] = static_cast<char>((at * 7 + at / 256) % 251);
  return bytes;
}

std::string param(FCGX_Request &request, const char *name) {
  const char *value = FCGX_GetParam(name, request.envp);
  return value ? value : "";
}

// The number behind "NAME=" in the query; 0 without one.
uint64_t number(const std::string &query, const std::string &name) {
  const size_t at = query.find(name + "=");
  return at == std::string::npos ? 0 : std::strtoull(query.c_str() + at + name.size() + 1, nullptr, 10);
}

void answer(FCGX_Request &request) {
  fcgi_streambuf in_buffer(request.in), out_buffer(request.out), err_buffer(request.err);
  std::istream in(&in_buffer);
  std::ostream out(&out_buffer), err(&err_buffer);
  const std::string path = param(request, "DOCUMENT_URI"), query = param(request, "QUERY_STRING");
  const std::string page = path.substr(path.rfind('/') + 1);

  if (page == "teapot") {
    out << "Status: 418 I'm a teapot\r\nContent-Type: text/plain\r\n\r\nshort and stout\n";
    return;
  }
  if (page == "crash") {
    std::cerr << "about to crash" << std::endl;
    std::raise(SIGSEGV);
  }
  if (page == "exit") {
    std::cerr << "about to exit" << std::endl;
    std::_Exit(static_cast<int>(number(query, "status")));
  }
  out << "Content-Type: application/octet-stream\r\n\r\n";
  if (page == "pid") {
    out << getpid();
  } else if (page == "show") {
    for (const char *name : {"REQUEST_METHOD", "QUERY_STRING", "CONTENT_LENGTH", "HTTP_HOST", "HTTP_PROXY", "REMOTE_ADDR"})
      out << name << "=" << param(request, name) << "\n";
  } else if (page == "environment") {
    for (char **variable = environ; *variable; ++variable)
      out << *variable << "\n";
  } else if (page == "echo" || page == "count") {
    char bytes[65536];
    uint64_t count = 0;
    while (in.read(bytes, sizeof bytes), in.gcount() > 0) {
      count += in.gcount();
      if (page == "echo")
        out.write(bytes, in.gcount());
    }
    if (page == "count")
      out << count;
  } else if (page == "store") {
    const std::string body((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    out.write(body.data(), body.size());
  } else if (page == "make") {
    const std::string bytes = pattern();
    for (uint64_t left = number(query, "bytes"); left > 0 && out;) {
      const size_t part = std::min<uint64_t>(left, PATTERN);
      out.write(bytes.data(), part);
      left -= part;
    }
  } else if (page == "slow") {
    std::this_thread::sleep_for(std::chrono::milliseconds(number(query, "ms")));
    out << "slept";
  } else if (page == "complain") {
    err << "a word on the request's stderr" << std::endl;
    std::cerr << "a word on the program's stderr" << std::endl;
    out << "complained";
  } else if (page == "halfway") {
    out << std::string(100'000, 'x') << std::flush;
    std::raise(SIGSEGV);
  } else {
    out << "no such page: " << path;
  }
}

} // namespace

int main() {
  if (FCGX_Init() != 0)
    return 1;
  const char *most = std::getenv("PROBE_REQUESTS");
  if (std::getenv("PROBE_THREAD"))
    std::thread([] { pause(); }).detach();
  FCGX_Request request;
  FCGX_InitRequest(&request, 0, 0);
  for (uint64_t left = most ? std::strtoull(most, nullptr, 10) : UINT64_MAX; left > 0; --left) {
    if (FCGX_Accept_r(&request) != 0)
      return 1;
    answer(request);
    FCGX_Finish_r(&request);
  }
}
