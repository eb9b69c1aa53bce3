package models

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	branch       = "main" // what an id means; pinned to a commit before anything is fetched
	maxFiles     = 10000
	maxPage      = 32 << 20
	maxPages     = 100
	maxPause     = 5 * time.Minute // whatever Retry-After says
	maxRedirects = 10
)

// ParseEndpoint reads the address of a hub. The error says what was expected.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("expected the URL of a hub such as %s, without a user or a query", DefaultEndpoint)
	}
	return u, nil
}

// newClient makes the client for the hub and for where it redirects to.
func newClient(endpoint *url.URL, opts Options) *http.Client {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   30 * time.Second,
		ResponseHeaderTimeout: opts.Stall,
		// Errors can quote a header, and go into events and jobs.
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // sizes and hashes are of the files as they are
	}
	return &http.Client{
		Transport: authorized{transport, endpoint, opts.Token, opts.UserAgent, opts.Stall},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) >= maxRedirects {
				return fmt.Errorf("stopped after %d redirects", maxRedirects)
			}
			// Signed addresses, and what is asked for, would be readable on the way.
			if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
				return errors.New("stopped after a redirect from https to " + clip(req.URL.Scheme))
			}
			return nil
		},
	}
}

// authorized adds the token to requests that go to the hub itself. That is decided
// for each hop here: net/http would also send it to subdomains of the hub's host.
type authorized struct {
	next     *http.Transport
	endpoint *url.URL
	token    string
	agent    string
	stall    time.Duration
}

// RoundTrip implements http.RoundTripper. The body of the answer fails if next to
// nothing comes for the time of a stall, whoever reads it: net/http and retryablehttp read
// some of those that nobody wants.
func (a authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := a.send(r.Clone(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	// Not the clone, which has the token.
	resp.Request = r
	watch := time.AfterFunc(a.stall, func() { cancel(fmt.Errorf("less than %s was received in %v", Bytes(minProgress), a.stall)) })
	resp.Body = &stallReader{ReadCloser: resp.Body, ctx: ctx, interrupt: cancel, watch: watch, stall: a.stall}
	return resp, nil
}

func (a authorized) send(r *http.Request) (*http.Response, error) {
	// Whatever is there: only what follows decides.
	r.Header.Del("Authorization")
	if a.token != "" && r.URL.Scheme == a.endpoint.Scheme && strings.EqualFold(r.URL.Host, a.endpoint.Host) {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	if a.agent != "" {
		r.Header.Set("User-Agent", a.agent)
	}
	return a.next.RoundTrip(r)
}

// stallReader is a body that ends with an error when too little comes for too long: one
// byte now and then would keep a download for ever, too.
type stallReader struct {
	io.ReadCloser
	ctx       context.Context // of the request
	interrupt context.CancelCauseFunc
	watch     *time.Timer
	stall     time.Duration
	gained    int // since watch was set
}

// Read implements io.Reader.
func (b *stallReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.gained += n; b.gained >= minProgress {
		b.gained = 0
		b.watch.Reset(b.stall)
	}
	// The cause says more than "context canceled".
	if cause := context.Cause(b.ctx); err != nil && cause != nil && !errors.Is(err, io.EOF) {
		err = cause
	}
	return n, err
}

// Close implements io.Closer.
func (b *stallReader) Close() error {
	b.watch.Stop()
	b.interrupt(nil)
	return b.ReadCloser.Close()
}

// CloseIdleConnections closes those of the transport below.
func (a authorized) CloseIdleConnections() { a.next.CloseIdleConnections() }

// request sends a GET and tries again while the hub cannot be reached or is busy. It
// tells note what it waits for. The caller closes the body of the answer, whose
// status can be any.
func (l *Library) request(ctx context.Context, address string, header http.Header, note func(string)) (*http.Response, error) {
	req, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Accept-Encoding", "identity")
	client := retryablehttp.Client{
		HTTPClient: l.client, RetryMax: 4, RetryWaitMin: l.opts.RetryMin, RetryWaitMax: l.opts.RetryMax,
		CheckRetry: retryablehttp.DefaultRetryPolicy, ErrorHandler: retryablehttp.PassthroughErrorHandler,
		// The hub may ask for hours by Retry-After, and somebody waits for the job.
		Backoff: func(least, most time.Duration, n int, resp *http.Response) time.Duration {
			wait := min(retryablehttp.DefaultBackoff(least, most, n, resp), maxPause)
			why := "the hub cannot be reached"
			if resp != nil {
				why = "the hub returned " + clip(resp.Status)
			}
			note(fmt.Sprintf("%s; trying again in %v", why, wait.Round(time.Millisecond)))
			return wait
		},
	}
	resp, err := client.Do(req)
	if ctx.Err() != nil {
		if err == nil {
			_ = resp.Body.Close() // nobody reads it
		}
		return nil, context.Cause(ctx)
	}
	if _, without := errors.AsType[*url.Error](err); without || resp == nil {
		return nil, unreachable(err) // after a redirect that was stopped there is one, and its body is closed
	}
	note("")
	return resp, nil // also after all tries: its status says why
}

// unreachable is the error for a request without an answer. It names the host only:
// the rest of the address can hold a signature.
func unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		host := "the hub"
		if u, parsed := url.Parse(e.URL); parsed == nil {
			host = clip(u.Host)
		}
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, host, e.Err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// refused is the error for an answer that is none to what was asked; what names it.
func (l *Library) refused(resp *http.Response, what string) error {
	said := ""
	if text := clip(resp.Header.Get("X-Error-Message")); text != "" {
		said = ": " + text
	}
	switch resp.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: the hub has no %s%s", ErrNotFound, what, said)
	case http.StatusUnauthorized:
		hint := "the hub does not accept the token in HF_TOKEN, or it has no " + what
		if l.opts.Token == "" {
			hint = "it has no " + what + ", or it wants a token: set HF_TOKEN in hive's environment"
		}
		return fmt.Errorf("%w (401): %s%s", ErrUnauthorized, hint, said)
	case http.StatusForbidden:
		return fmt.Errorf("%w (403): %s is gated, or the token in HF_TOKEN does not reach it: request access on its page of the hub%s", ErrUnauthorized, what, said)
	}
	return fmt.Errorf("%w: the hub returned %s for %s%s", ErrUnavailable, clip(resp.Status), what, said)
}

// getJSON reads one answer of the hub's API into v, and returns its header.
func (l *Library) getJSON(ctx context.Context, address, what string, note func(string), v any) (http.Header, error) {
	resp, err := l.request(ctx, address, nil, note)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return nil, l.refused(resp, what)
	}
	// Bounded: an answer must not fill the memory.
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPage)).Decode(v); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: the hub's response about %s cannot be read: %w", ErrUnavailable, what, err)
	}
	return resp.Header, nil
}

// remoteFile is one file of a repository, as the hub lists it.
type remoteFile struct {
	Path string
	Size int64
	LFS  string // SHA-256 of the content; empty: a file of git itself
	Git  string // git's hash of the content of such a file
	sum  string // SHA-256 of what came
}

var (
	commitRE = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)
	sha256RE = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// list pins the repository to a commit and returns the files that this one has.
func (l *Library) list(ctx context.Context, repo string, note func(string)) (commit string, files []remoteFile, err error) {
	what := "repository " + repo
	var info struct {
		SHA string `json:"sha"`
	}
	if _, err := l.getJSON(ctx, l.endpoint.JoinPath("api/models", repo, "revision", branch).String(), what, note, &info); err != nil {
		return "", nil, err
	}
	if !commitRE.MatchString(info.SHA) {
		return "", nil, fmt.Errorf("%w: the hub names %q as the commit of %s", ErrUnavailable, clip(info.SHA), repo)
	}
	// By commit, not by branch: all pages and all files are of one state.
	next := l.endpoint.JoinPath("api/models", repo, "tree", info.SHA)
	next.RawQuery = "recursive=true"
	for range maxPages {
		var page []struct {
			Type string `json:"type"`
			OID  string `json:"oid"`
			Size int64  `json:"size"`
			Path string `json:"path"`
			LFS  *struct {
				OID  string `json:"oid"`
				Size int64  `json:"size"`
			} `json:"lfs"`
		}
		header, err := l.getJSON(ctx, next.String(), what, note, &page)
		if err != nil {
			return "", nil, err
		}
		for _, e := range page {
			if e.Type != "file" {
				continue
			}
			f := remoteFile{Path: e.Path, Size: e.Size, Git: e.OID}
			// In git such a file is only a pointer, whose size and hash are of no use.
			if e.LFS != nil {
				f.Size, f.LFS, f.Git = e.LFS.Size, strings.TrimPrefix(e.LFS.OID, "sha256:"), ""
			}
			if err := f.check(); err != nil {
				return "", nil, err
			}
			files = append(files, f)
		}
		if len(files) > maxFiles {
			return "", nil, fmt.Errorf("%w: %s has more than %d files", ErrUnavailable, repo, maxFiles)
		}
		if next = l.nextPage(next, header); next == nil {
			return info.SHA, files, nil
		}
	}
	return "", nil, fmt.Errorf("%w: the list of files of %s does not end", ErrUnavailable, repo)
}

// check refuses what no file can be kept by.
func (f remoteFile) check() error {
	switch {
	case !validFile(f.Path):
		return fmt.Errorf("%w: the hub lists a file named %q", ErrCorrupt, clip(f.Path))
	case f.Size < 0:
		return fmt.Errorf("%w: the hub lists %s with %d bytes", ErrCorrupt, clip(f.Path), f.Size)
	// The hash is what a file is verified by, and its partial file named.
	case f.LFS != "" && !sha256RE.MatchString(f.LFS), f.LFS == "" && !commitRE.MatchString(f.Git):
		return fmt.Errorf("%w: the hub lists %s without a hash", ErrCorrupt, clip(f.Path))
	}
	return nil
}

var nextRE = regexp.MustCompile(`<([^>]*)>\s*;[^,]*\brel="?next"?`)

// nextPage is where the list goes on; nil: nowhere.
func (l *Library) nextPage(page *url.URL, header http.Header) *url.URL {
	m := nextRE.FindStringSubmatch(strings.Join(header.Values("Link"), ", "))
	if m == nil {
		return nil
	}
	// It may be relative. It may also lead to another host, which gets no token (send).
	next, err := page.Parse(m[1])
	if err != nil {
		return nil
	}
	return next
}
