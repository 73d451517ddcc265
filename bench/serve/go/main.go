// A server that echoes messages of 64 bytes, with a goroutine for each connection. Its arguments are the number of
// threads, and "plain" or "tls".
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
)

// The size of the buffer of a read, which is larger than a message.
const size = 256

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	threads, err := strconv.Atoi(os.Args[1])
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(threads)
	// Ends with the parent, which holds the other end.
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	if os.Args[2] == "tls" {
		certificate, err := tls.X509KeyPair(
			[]byte(os.Getenv("SOCKEYE_BENCH_CERTIFICATE")), []byte(os.Getenv("SOCKEYE_BENCH_KEY")))
		if err != nil {
			return err
		}
		listener = tls.NewListener(listener, &tls.Config{
			Certificates:           []tls.Certificate{certificate},
			MinVersion:             tls.VersionTLS13,
			SessionTicketsDisabled: true,
		})
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go echo(conn)
	}
}

func echo(conn net.Conn) {
	defer conn.Close()
	var buf [size]byte
	for {
		count, err := conn.Read(buf[:])
		if err != nil {
			return
		}
		if _, err := conn.Write(buf[:count]); err != nil {
			return
		}
	}
}
