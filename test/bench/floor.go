package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"go.etcd.io/bbolt"
)

// floorMain is the process of the floor: as little as a server can do that keeps
// the promise of hive's 202. It reads the body, commits a record of so many bytes
// and responds with as many bytes as hive does. It prints its address, and ends when its
// input is closed.
//
//	bench floor FILE RECORD-BYTES RESPONSE-BYTES
func floorMain(args []string) error {
	if len(args) != 3 {
		return errors.New("floor: FILE RECORD-BYTES RESPONSE-BYTES expected")
	}
	record, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	answer, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	db, err := bbolt.Open(args[0], 0o600, nil)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucketIfNotExists(records); return err }); err != nil {
		return err
	}
	commits := make(chan commit, 64)
	go groupCommits(db, commits)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: floorHandler(commits, record, []byte(strings.Repeat("x", answer)))}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	fmt.Println(ln.Addr())
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

var records = []byte("records")

// commit is a record that waits to be durable.
type commit struct {
	value []byte
	done  chan error
}

// groupCommits commits whatever waits in one transaction, and again.
func groupCommits(db *bbolt.DB, in <-chan commit) {
	for first := range in {
		batch := []commit{first}
		for len(in) > 0 {
			batch = append(batch, <-in)
		}
		err := db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(records)
			for _, c := range batch {
				seq, err := b.NextSequence()
				if err != nil {
					return err
				}
				if err := b.Put(binary.BigEndian.AppendUint64(nil, seq), c.value); err != nil {
					return err
				}
			}
			return nil
		})
		for _, c := range batch {
			c.done <- err
		}
	}
}

func floorHandler(commits chan<- commit, record int, answer []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			value := make([]byte, record)
			copy(value, body)
			done := make(chan error, 1)
			commits <- commit{value, done}
			err = <-done
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(answer)
	})
}

// startFloor starts the floor beside hive's state file, so on the same disk.
func startFloor(ctx context.Context, file string, record, answer int) (addr string, stop func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "floor", file, strconv.Itoa(record), strconv.Itoa(answer))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error { return errors.Join(in.Close(), cmd.Wait()) }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("floor did not come up: %w", err), stop())
	}
	return strings.TrimSpace(line), stop, nil
}
