package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// question is what clients send.
type question struct {
	Model  string `json:"model"`
	ID     string `json:"id"`
	Stream bool   `json:"stream"`
}

// engine is a worker that answers completions: engine PORT.
func engine(args []string) error {
	if len(args) != 1 {
		return errors.New("expected a port")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/completions", complete)
	server := &http.Server{Addr: "127.0.0.1:" + args[0], Handler: mux, ReadHeaderTimeout: time.Minute}
	return server.ListenAndServe()
}

func complete(w http.ResponseWriter, r *http.Request) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !q.Stream {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"id":%q}`, q.ID)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	for n := range chunks {
		if _, err := fmt.Fprintf(w, "data: %s %d\n\n", q.ID, n); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(chunkPause):
		}
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}
