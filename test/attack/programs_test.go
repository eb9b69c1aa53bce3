//go:build linux

package attack_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// server serves, as a worker or in the place of one, and does what it is asked to: a
// model server that fetches the URL in a request, or one that was taken over.
func server(args []string) int {
	fs := flag.NewFlagSet("server", flag.ExitOnError)
	host := fs.String("host", "127.0.0.1", "")
	port := fs.Int("port", 0, "")
	await := fs.String("await", "", "file to wait for before anything is served")
	child := fs.Bool("child", false, "have a child serve, with an empty environment")
	_ = fs.Parse(args) // it ends the program
	if *child {
		cmd := exec.Command("/proc/self/exe", "-host", *host, "-port", strconv.Itoa(*port))
		cmd.Args[0] = "server"
		cmd.Env = []string{}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return status(cmd.Run())
	}
	for *await != "" {
		if _, err := os.Stat(*await); err == nil {
			break
		}
		pause()
	}
	http.HandleFunc("/", func(_ http.ResponseWriter, r *http.Request) { fmt.Println("asked by", r.UserAgent()) })
	http.HandleFunc("/environ", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(os.Environ()) })
	http.HandleFunc("/fetch", func(w http.ResponseWriter, r *http.Request) {
		var a ask
		if json.NewDecoder(r.Body).Decode(&a) == nil {
			_ = json.NewEncoder(w).Encode(a.send())
		}
	})
	http.HandleFunc("/sh", func(w http.ResponseWriter, r *http.Request) {
		script, _ := io.ReadAll(r.Body)
		out, err := exec.Command("/bin/sh", "-c", string(script)).CombinedOutput()
		fmt.Fprintf(w, "%s%d", out, status(err))
	})
	http.HandleFunc("/hole", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, hole()) })
	l, err := net.Listen("tcp", net.JoinHostPort(*host, strconv.Itoa(*port)))
	if err != nil {
		fmt.Println("listen:", err)
		return 1
	}
	fmt.Println("ready")
	return status(http.Serve(l, nil))
}

// hole makes standard output 8 TiB large, and again when somebody has cut it.
func hole() string {
	if err := os.Stdout.Truncate(8 << 40); err != nil {
		return err.Error()
	}
	go func() {
		for {
			<-time.After(100 * time.Millisecond)
			_ = os.Stdout.Truncate(8 << 40) // once more
		}
	}()
	return "ok"
}

// status is what an error says of how a program has ended.
func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	fmt.Println(err)
	return 1
}

// squatter listens on an address, and prints what its clients send. It accepts them at
// once or when it is asked to, and can leave the port to others then.
func squatter(args []string) int {
	fs := flag.NewFlagSet("squatter", flag.ExitOnError)
	later := fs.Bool("later", false, "accept nobody until a line comes on stdin")
	vanish := fs.Bool("vanish", false, "close the listener after the first client")
	wait := fs.Bool("wait", false, "try until the address is free")
	_ = fs.Parse(args) // it ends the program
	l, err := net.Listen("tcp", fs.Arg(0))
	for *wait && err != nil {
		l, err = net.Listen("tcp", fs.Arg(0))
	}
	if err != nil {
		fmt.Println("listen:", err)
		return 1
	}
	fmt.Println("ready")
	if *later {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			select {} // it has what it wanted
		}
		if *vanish {
			l.Close()
		}
		fmt.Println("taken")
		go func() {
			block := make([]byte, 4096)
			for {
				n, err := conn.Read(block)
				if n > 0 {
					fmt.Printf("got %q\n", block[:n])
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				}
				if err != nil {
					return
				}
			}
		}()
	}
}

// leaver sends a request to hive from a port and leaves, in one of the ways there are.
func leaver(args []string) int {
	how, port, request := args[0], args[1], args[2]
	local, err := net.ResolveTCPAddr("tcp", "127.0.0.1:"+port)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	d := net.Dialer{LocalAddr: local, Timeout: timeout, Control: reuse}
	conn, err := d.Dial("tcp", api)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	tcp := conn.(*net.TCPConn)
	if _, err := tcp.Write([]byte(request)); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("sent")
	switch how {
	case "reset":
		_ = tcp.SetLinger(0)
		tcp.Close()
	case "close":
		tcp.Close()
	case "half":
		_ = tcp.CloseWrite()
		<-time.After(timeout)
	case "exit":
	case "stay":
		<-time.After(timeout)
	}
	return 0
}

func reuse(_, _ string, c syscall.RawConn) (err error) {
	failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	return errors.Join(failed, err)
}
