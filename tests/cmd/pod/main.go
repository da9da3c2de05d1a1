// Command pod is the program that runs in the pods of the demo and of the tests: a small HTTP server
// that says who it is and who asks, and gives as many bytes as are wanted.
//
//	GET /          "dev/pod1 10.244.1.2" (its name, the address that asked)
//	GET /bytes?n=N N bytes
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"time"
)

// zeros reads as an endless row of zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func main() {
	name := flag.String("name", "pod", "what to answer as")
	listen := flag.String("listen", ":80", "addresses to listen on")
	flag.Parse()
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintf(w, "%s %s\n", *name, host)
	})
	http.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n: a number of bytes", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		if _, err := io.CopyN(w, zeros{}, n); err != nil {
			log.Print(err)
		}
	})
	server := http.Server{Addr: *listen, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
