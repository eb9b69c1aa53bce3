//go:build linux

// Command probe is what test/boot runs in its machine: a worker that reports what it
// may do, the helpers that it runs for that, and strangers.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "worker": // its address
		return serve(args[1])
	case len(args) == 1 && args[0] == "euid":
		_, err := fmt.Print(os.Geteuid())
		return err
	case len(args) == 2 && args[0] == "get": // a URL
		return get(args[1])
	case len(args) == 2 && args[0] == "squat": // an address
		return squat(args[1])
	case len(args) == 2 && args[0] == "hold": // an address
		return hold(args[1])
	case len(args) == 2 && args[0] == "ask": // an address
		return ask(args[1])
	}
	return fmt.Errorf("unknown command %q", args)
}

func get(url string) error {
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// untilEOF repeats what until the standard input is closed.
func untilEOF(what func() error) error {
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	for {
		select {
		case <-closed:
			return nil
		default:
		}
		if err := what(); err != nil {
			return err
		}
	}
}

// squat tries to listen on an address, and prints how often that was possible.
func squat(addr string) error {
	taken := 0
	err := untilEOF(func() error {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil
		}
		taken++
		return ln.Close()
	})
	fmt.Print(taken)
	return err
}

// hold has an outgoing connection from an address, which keeps everybody from listening on
// it, and prints 1.
func hold(addr string) error {
	local, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	conn, err := (&net.Dialer{LocalAddr: local}).Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Print(1)
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // or the port would be taken for another minute
		return err
	}
	return conn.Close()
}

// ask sends a request over a new connection, again and again, and prints how often it got
// a response. A connection must always be accepted. One that is open when hive is asked
// to end may be closed without a response, as HTTP allows: the next try must get one.
func ask(addr string) error {
	answers, unanswered := 0, 0
	err := untilEOF(func() error {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(conn, "GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", addr)
		answer, err := io.ReadAll(conn)
		switch {
		case len(answer) > 0 && err == nil:
			answers++
			unanswered = 0
		case errors.Is(err, os.ErrDeadlineExceeded) || unanswered > 0:
			return fmt.Errorf("no answer after %d (%q): %w", answers, answer, err)
		default:
			unanswered++
		}
		return nil
	})
	fmt.Print(answers)
	return err
}
