package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxBody is the largest request that is read.
const maxBody = 1 << 20

// WorkerHeader is in every answer of a worker that was told its id: whoever asks
// a port can tell which worker has answered, or that none has.
const WorkerHeader = "X-Worker-Id"

// worker is the HTTP side. It is safe for concurrent use; nothing in it changes.
type worker struct {
	o       *Options
	started time.Time
}

func (o *Options) handler(started time.Time) http.Handler {
	w := &worker{o: o, started: started}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", w.health)
	mux.HandleFunc("GET /v1/models", w.models)
	mux.HandleFunc("POST /v1/completions", w.completions)
	if o.WorkerID == "" {
		return mux
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		// Before the mux, so that a 404 says who answers as well.
		rw.Header().Set(WorkerHeader, o.WorkerID)
		mux.ServeHTTP(rw, r)
	})
}

// status is what /health says; only "healthy" is answered with 200.
func (w *worker) status() string {
	switch {
	case w.o.Unhealthy:
		return "unhealthy"
	case time.Since(w.started) < w.o.LoadTime:
		return "loading"
	}
	return "healthy"
}

func (w *worker) health(rw http.ResponseWriter, _ *http.Request) {
	s := w.status()
	code := http.StatusOK
	// 503, as servers of models answer while they load: a probe looks at the status only.
	if s != "healthy" {
		code = http.StatusServiceUnavailable
	}
	reply(rw, code, map[string]string{"status": s})
}

type model struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (w *worker) models(rw http.ResponseWriter, _ *http.Request) {
	reply(rw, http.StatusOK, map[string]any{
		"object": "list",
		"data":   []model{{ID: w.o.Model, Object: "model", Created: w.started.Unix(), OwnedBy: "hive"}},
	})
}

type completionRequest struct {
	Prompt    prompts `json:"prompt"`
	MaxTokens int     `json:"max_tokens"`
	Stream    bool    `json:"stream"`
}

var errPrompt = errors.New("prompt: expected a string or a list of strings")

// prompts is one prompt or a list of them, as OpenAI's API takes both.
type prompts []string

// UnmarshalJSON takes a string or a list of strings.
func (p *prompts) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*p = prompts{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(b, &many); err != nil {
		return errPrompt
	}
	*p = many
	return nil
}

type choice struct {
	Text         string  `json:"text"`
	Index        int     `json:"index"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// completions echoes the prompt.
func (w *worker) completions(rw http.ResponseWriter, r *http.Request) {
	// As a real worker does whose model is not in memory yet.
	if s := w.status(); s != "healthy" {
		fail(rw, http.StatusServiceUnavailable, "server_error", "the worker is "+s)
		return
	}
	var req completionRequest
	if err := json.NewDecoder(http.MaxBytesReader(rw, r.Body, maxBody)).Decode(&req); err != nil {
		fail(rw, http.StatusBadRequest, "invalid_request_error", err.Error())
		return
	}
	if len(req.Prompt) == 0 {
		fail(rw, http.StatusBadRequest, "invalid_request_error", errPrompt.Error())
		return
	}
	// Refused and not ignored: a client that waits for events would wait for ever.
	if req.Stream {
		fail(rw, http.StatusBadRequest, "invalid_request_error", "the reference worker does not stream")
		return
	}
	choices := make([]choice, 0, len(req.Prompt))
	var u usage
	for i, prompt := range req.Prompt {
		c, in, out := echo(prompt, req.MaxTokens)
		c.Index = i
		choices = append(choices, c)
		u.PromptTokens += in
		u.CompletionTokens += out
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	now := time.Now()
	reply(rw, http.StatusOK, map[string]any{
		"id": fmt.Sprintf("cmpl-%x", now.UnixNano()), "object": "text_completion", "created": now.Unix(),
		"model": w.o.Model, "choices": choices, "usage": u,
	})
}

// echo is the completion of one prompt, cut to limit words if limit is above 0.
func echo(prompt string, limit int) (c choice, in, out int) {
	words := strings.Fields(prompt)
	if limit > 0 && len(words) > limit {
		return choice{Text: strings.Join(words[:limit], " "), FinishReason: "length"}, len(words), limit
	}
	return choice{Text: prompt, FinishReason: "stop"}, len(words), len(words)
}

func fail(rw http.ResponseWriter, code int, kind, message string) {
	reply(rw, code, map[string]any{"error": map[string]any{"message": message, "type": kind, "param": nil, "code": nil}})
}

// reply writes v. An error means that the client went away: there is nobody to tell.
func reply(rw http.ResponseWriter, code int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(code)
	_ = json.NewEncoder(rw).Encode(v)
}
