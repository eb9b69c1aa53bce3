package hive_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/hive/catalog"
)

// portUser is a worker program that treats its port as some real ones do. It is
// the test binary, started with the argument port-user.
type portUser struct {
	host      string
	port      int
	reusePort bool   // SO_REUSEPORT, like vLLM, sd-server and whisper-server
	waitFor   string // file that must exist before it binds
	bound     string // it binds at once and listens when this file exists, like vLLM
	ifHeld    string // exit0 (sd-server), exit1 (llama-server), next (tabbyAPI)
	extra     int    // listens on this port too, after its own
	sick      string // answers 500 while this file names it
	until     string // it stops listening, and runs on, when this file exists
	asked     string // takes a line for each request
	below     string // serves nothing but below this path
	tls       string // serves TLS with the certificate and the key in this file
}

// runPortUser is main of the port user.
func runPortUser(args []string) int {
	var s portUser
	fs := flag.NewFlagSet("port-user", flag.ContinueOnError)
	fs.StringVar(&s.host, "host", "127.0.0.1", "")
	fs.IntVar(&s.port, "port", 0, "")
	fs.BoolVar(&s.reusePort, "reuse-port", false, "")
	fs.StringVar(&s.waitFor, "wait-for", "", "")
	fs.StringVar(&s.bound, "bound", "", "")
	fs.StringVar(&s.ifHeld, "if-held", "exit1", "")
	fs.IntVar(&s.extra, "extra", 0, "")
	fs.StringVar(&s.sick, "sick", "", "")
	fs.StringVar(&s.until, "until", "", "")
	fs.StringVar(&s.asked, "asked", "", "")
	fs.StringVar(&s.below, "below", "", "")
	fs.StringVar(&s.tls, "tls", "", "")
	if fs.Parse(args) != nil {
		return 2
	}
	await(s.waitFor)
	l, err := s.listen(s.port)
	if errors.Is(err, syscall.EADDRINUSE) {
		switch s.ifHeld {
		case "exit0":
			fmt.Println("goodbye")
			return 0
		case "next":
			l, err = s.listen(s.port + 1)
		}
	}
	if err != nil {
		fmt.Println("cannot listen:", err)
		return 1
	}
	if s.extra != 0 {
		also, err := s.listen(s.extra)
		if err != nil {
			fmt.Println("cannot listen:", err)
			return 1
		}
		defer also.Close()
	}
	if s.until != "" {
		go func() { await(s.until); _ = l.Close() }()
		defer await("/nonexistent")
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !strings.HasPrefix(req.URL.Path, s.below) {
			http.NotFound(w, req)
			return
		}
		note(s.asked, req.Method+" "+req.URL.Path)
		if who, err := os.ReadFile(s.sick); err == nil && string(who) == strconv.Itoa(os.Getpid()) {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintln(w, "port-user", os.Getpid())
	})
	if s.tls != "" {
		fmt.Println(http.ServeTLS(l, handler, s.tls, s.tls))
		return 1
	}
	fmt.Println(http.Serve(l, handler))
	return 1
}

// note appends a line to a file.
func note(file, line string) {
	if file == "" {
		return
	}
	if f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644); err == nil {
		_, _ = fmt.Fprintln(f, line)
		_ = f.Close()
	}
}

// await waits until a file exists.
func await(file string) {
	for file != "" {
		if _, err := os.Stat(file); err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *portUser) listen(port int) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if !s.reusePort && s.bound == "" {
			return nil
		}
		return c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	if s.bound != "" {
		first, err := bind(s.host, port)
		if err != nil {
			return nil, err
		}
		defer unix.Close(first)
		await(s.bound)
	}
	return lc.Listen(context.Background(), "tcp", net.JoinHostPort(s.host, strconv.Itoa(port)))
}

// bind binds with the flags of vLLM, and does not listen.
func bind(host string, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte(net.ParseIP(host).To4())}),
	)
	return fd, err
}

// portUserEntry is a worker type of the port user.
func portUserEntry(t *testing.T, name string, args ...string) catalog.Entry {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return catalog.Entry{
		Name: name, Command: append([]string{self, "port-user", "--port", "{{.Port}}", "--host", "{{.Host}}"}, args...),
		Ready: catalog.ReadyEntry{Path: ref("/"), Timeout: ref(20 * time.Second)},
		Stop:  catalog.StopEntry{Grace: ref(2 * time.Second)},
	}
}
