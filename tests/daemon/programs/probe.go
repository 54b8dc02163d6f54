// The pages of probe.md on Go's net/http/fcgi, which has a loop of its own: it accepts as many connections as come and
// takes several requests at a time on each.
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/fcgi"
	"os"
	"path"
	"strconv"
	"syscall"
	"time"
)

func pattern() []byte {
	bytes := make([]byte, 65521)
	for at := range bytes {
		bytes[at] = byte((at*7 + at/256) % 251)
	}
	return bytes
}

func number(request *http.Request, name string) int64 {
	number, _ := strconv.ParseInt(request.URL.Query().Get(name), 10, 64)
	return number
}

func answer(out http.ResponseWriter, request *http.Request) {
	page := path.Base(request.URL.Path)
	switch page {
	case "teapot":
		out.Header().Set("Content-Type", "text/plain")
		out.WriteHeader(http.StatusTeapot)
		fmt.Fprintln(out, "short and stout")
		return
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "exit":
		fmt.Fprintln(os.Stderr, "about to exit")
		os.Exit(int(number(request, "status")))
	}
	out.Header().Set("Content-Type", "application/octet-stream")
	switch page {
	case "pid":
		fmt.Fprint(out, os.Getpid())
	case "show":
		parameters := fcgi.ProcessEnv(request)
		length := ""
		if request.ContentLength > 0 {
			length = strconv.FormatInt(request.ContentLength, 10)
		}
		fmt.Fprintf(out, "REQUEST_METHOD=%s\nQUERY_STRING=%s\nCONTENT_LENGTH=%s\nHTTP_HOST=%s\nHTTP_PROXY=%s%s\nREMOTE_ADDR=%s\n",
			request.Method, request.URL.RawQuery, length, request.Host, request.Header.Get("Proxy"),
			parameters["HTTP_PROXY"], request.RemoteAddr)
	case "environment":
		for _, variable := range os.Environ() {
			fmt.Fprintln(out, variable)
		}
	case "echo":
		io.Copy(out, request.Body)
	case "store":
		body, _ := io.ReadAll(request.Body)
		out.Write(body)
	case "count":
		count, _ := io.Copy(io.Discard, request.Body)
		fmt.Fprint(out, count)
	case "make":
		bytes := pattern()
		for left := number(request, "bytes"); left > 0; left -= int64(len(bytes)) {
			if left < int64(len(bytes)) {
				bytes = bytes[:left]
			}
			if _, err := out.Write(bytes); err != nil {
				return
			}
		}
	case "slow":
		time.Sleep(time.Duration(number(request, "ms")) * time.Millisecond)
		fmt.Fprint(out, "slept")
	case "complain":
		fmt.Fprintln(os.Stderr, "a word on the program's stderr")
		fmt.Fprint(out, "complained")
	case "halfway":
		out.Write(make([]byte, 100_000))
		out.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond)
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	default:
		fmt.Fprint(out, "no such page: ", request.URL.Path)
	}
}

func main() {
	if err := fcgi.Serve(nil, http.HandlerFunc(answer)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
