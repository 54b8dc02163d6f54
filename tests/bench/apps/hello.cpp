// The smallest program on libfcgi. Its argument, if there is one, is how many milliseconds it takes for a page.

#include <chrono>
#include <cstdlib>
#include <fcgiapp.h>
#include <thread>

int main(int count, char **arguments) {
  const std::chrono::milliseconds pause(count > 1 ? std::atoi(arguments[1]) : 0);
  FCGX_Request request;
  if (FCGX_Init() != 0 || FCGX_InitRequest(&request, 0, 0) != 0)
    return 1;
  while (FCGX_Accept_r(&request) == 0) {
    if (pause.count() > 0)
      std::this_thread::sleep_for(pause);
    FCGX_PutS("Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n", request.out);
    FCGX_Finish_r(&request);
  }
}
