// Package keeper is a client of a hive that behaves as rbee's keeper and its page do,
// written from what is known of how they talk and not from their code: it knows no
// framing of server-sent events, reads a stream line by line, and tells how a job
// ended by the words in it.
package keeper

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Limits of the keeper: for everything, for a download, and for an installation.
const (
	limit         = 30 * time.Second
	downloadLimit = 600 * time.Second
	installLimit  = 900 * time.Second
)

// ErrCancelled and ErrFailed are how the keeper reads the end of a job that did not
// succeed; ErrFailed is wrapped with what the terminator says.
var (
	ErrCancelled = errors.New("cancelled")
	ErrFailed    = errors.New("failed")
)

// Client talks to one hive. It is safe for concurrent use.
type Client struct {
	URL    string // without a slash at its end
	HiveID string // the alias that the keeper knows the hive by
	HTTP   *http.Client
}

// View is what a stream looks like to the keeper.
type View struct {
	JobID  string
	Lines  []string // as they are shown, the terminator included
	Err    error    // nil: success; ErrCancelled or ErrFailed
	Failed bool     // the last message says that the job failed
	Left   string   // what came behind the terminator
}

// Refused is a response to a submission that does not name a job.
type Refused struct {
	Status int
	Body   string
}

func (r *Refused) Error() string { return fmt.Sprintf("status %d: %s", r.Status, r.Body) }

// Submit submits an operation with its fields and the hive's id. The keeper decodes
// the answer whatever its status; one without the two fields it needs is a *Refused.
func (c *Client) Submit(ctx context.Context, operation string, fields map[string]any) (jobID, path string, err error) {
	body := map[string]any{"operation": operation, "hive_id": c.HiveID}
	for k, v := range fields {
		body[k] = v
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return "", "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/jobs", bytes.NewReader(raw))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", "", err
	}
	var job struct {
		JobID  *string `json:"job_id"`
		SSEURL *string `json:"sse_url"`
	}
	if json.Unmarshal(answer, &job) != nil || job.JobID == nil || job.SSEURL == nil {
		return "", "", &Refused{resp.StatusCode, string(answer)}
	}
	return *job.JobID, *job.SSEURL, nil
}

// Do submits an operation and reads its stream to the end, within the keeper's limit.
func (c *Client) Do(ctx context.Context, operation string, fields map[string]any) (View, error) {
	wait := limit
	switch operation {
	case "model_download":
		wait = downloadLimit
	case "worker_install":
		wait = installLimit
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	id, path, err := c.Submit(ctx, operation, fields)
	if err != nil {
		return View{}, err
	}
	return c.Watch(ctx, id, path)
}

// Watch reads a stream to its end. A stream that ends without a terminator is an
// error here: the keeper would take it for a success.
func (c *Client) Watch(ctx context.Context, id, path string) (View, error) {
	v := View{JobID: id}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return v, err
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return v, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(resp.Body)
		return v, errors.Join(&Refused{resp.StatusCode, string(body)}, err)
	}
	if typ := resp.Header.Get("Content-Type"); typ != "text/event-stream" {
		return v, fmt.Errorf("the stream has the type %q", typ)
	}
	return v, v.read(resp.Body)
}

// read takes one line after the other, trims it, strips one "data:" and shows the
// rest, until a terminator.
func (v *View) read(r io.Reader) error {
	in := bufio.NewReader(r)
	for {
		raw, err := in.ReadString('\n')
		line := strings.TrimSpace(raw)
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			data = strings.TrimPrefix(line, "data:")
		}
		if data != "" && v.show(data) {
			rest, err := io.ReadAll(in)
			v.Left = strings.TrimSpace(string(rest))
			return err
		}
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("the stream of %s ends without a terminator, behind %q", v.JobID, v.Lines)
		}
		if err != nil {
			return err
		}
	}
}

// show takes one line and reports whether it was the terminator.
func (v *View) show(data string) (ended bool) {
	v.Lines = append(v.Lines, data)
	reason, failed := strings.CutPrefix(data, "[ERROR]")
	switch {
	case data == "[DONE]":
		return true
	case data == "[CANCELLED]":
		v.Err = ErrCancelled
		return true
	case failed:
		v.Err = fmt.Errorf("%w:%s", ErrFailed, reason)
		return true
	}
	if strings.Contains(data, "failed:") || strings.Contains(data, "Job") && strings.Contains(data, "failed") || strings.Contains(data, "[DONE]") {
		v.Failed = true
	}
	return false
}

// LastLine decodes the line before [DONE], where rbee's page looks for the result of
// worker_spawn and worker_process_list.
func (v View) LastLine(into any) error {
	if len(v.Lines) < 2 || v.Lines[len(v.Lines)-1] != "[DONE]" {
		return fmt.Errorf("no line before [DONE] in %q", v.Lines)
	}
	return json.Unmarshal([]byte(v.Lines[len(v.Lines)-2]), into)
}

// FirstBraces decodes the first line with braces, from the first to the last of them,
// where rbee's page looks for the result of worker_list_installed.
func (v View) FirstBraces(into any) error {
	for _, line := range v.Lines {
		from, to := strings.Index(line, "{"), strings.LastIndex(line, "}")
		if from >= 0 && to > from {
			return json.Unmarshal([]byte(line[from:to+1]), into)
		}
	}
	return fmt.Errorf("no line with braces in %q", v.Lines)
}

// Payload decodes the payload of the event for programs.
func (v View) Payload(operation string, into any) error {
	for i, line := range v.Lines[:max(0, len(v.Lines)-1)] {
		if line != "event: data" {
			continue
		}
		var event struct {
			Action  string          `json:"action"`
			Payload json.RawMessage `json:"payload"`
		}
		if err := json.Unmarshal([]byte(v.Lines[i+1]), &event); err != nil {
			return err
		}
		if event.Action != operation {
			return fmt.Errorf("the action is %q instead of %q", event.Action, operation)
		}
		return json.Unmarshal(event.Payload, into)
	}
	return fmt.Errorf("no event: data in %q", v.Lines)
}

// Cancel is the keeper's Ctrl-C.
func (c *Client) Cancel(ctx context.Context, id string) (status int, body string, err error) {
	return c.ask(ctx, http.MethodDelete, "/v1/jobs/"+id)
}

// Shutdown is how the keeper stops a hive.
func (c *Client) Shutdown(ctx context.Context) (status int, body string, err error) {
	return c.ask(ctx, http.MethodPost, "/v1/shutdown")
}

// Healthy reports whether /health answers 200, which the keeper polls.
func (c *Client) Healthy(ctx context.Context) bool {
	status, _, err := c.ask(ctx, http.MethodGet, "/health")
	return err == nil && status == http.StatusOK
}

func (c *Client) ask(ctx context.Context, method, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}
