// Package hub is a hub for tests: it serves the routes of the Hugging Face hub that
// a download uses, from generated content, on two listeners: the hub itself, and the
// store that it redirects to for large files. Both can be made to misbehave.
package hub

import (
	"crypto/sha1" //nolint:gosec // git's hashes are of it
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Commit is the commit of every repository.
const Commit = "0123456789abcdef0123456789abcdef01234567"

// pageSize is how many entries a page of a list has: small, so that tests turn pages.
const pageSize = 3

// File is one file of a repository. Its content is made from its seed.
type File struct {
	Path string
	Size int64
	Seed uint64
	LFS  bool
	Junk bool // also of a name that says it is a model
}

// Faults is how the hub misbehaves. It is changed with Hub.Misbehave.
type Faults struct {
	// Cut is asked at each body of a large file, and says after how many bytes the
	// connection is cut; negative: it is not.
	Cut func(rest int64) int64
	// Status is asked at each request, and answers it in its own way if it is not 0.
	Status func(r *http.Request) (status int, header http.Header)
	// Rate is bytes per second of each body; 0: as fast as can be.
	Rate int64

	LinkedETag   string // what the hub says about large files, instead of the truth
	WrongContent bool   // of large files: of the right length
	WrongLength  int64  // added to the length of large files where they lie
	ETag         func() string
	NoRanges     bool
	// Rest changes the header of an answer that is the rest of a file, and returns its status.
	Rest   func(h http.Header) int
	Hang   bool            // bodies of large files stop at half of what was asked for and stay open
	GoOn   <-chan struct{} // with Hang: they go on when it is closed; nil: never
	Direct bool            // large files are served by the hub itself
	Token  string
}

// Hub is a running hub.
type Hub struct {
	URL, StoreURL string

	hub, store *httptest.Server
	sent       atomic.Int64
	requests   atomic.Int64
	quit       chan struct{}

	mu      sync.Mutex
	repos   map[string][]File
	faults  Faults
	leaked  []string // Authorization headers that the store has seen
	ranges  []string
	ifRange int
	sums    map[File][2]string
}

// Start begins to serve. The caller closes it.
func Start() *Hub {
	h := &Hub{repos: map[string][]File{}, quit: make(chan struct{}), sums: map[File][2]string{}}
	h.hub, h.store = newServer(http.HandlerFunc(h.serveHub)), newServer(http.HandlerFunc(h.serveStore))
	h.URL, h.StoreURL = h.hub.URL, h.store.URL
	return h
}

// newServer makes a server whose connections hold little that their client has not
// read: what is sent is then about what was fetched.
func newServer(handler http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(handler)
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if tcp, ok := conn.(*net.TCPConn); ok && state == http.StateNew {
			_ = tcp.SetWriteBuffer(32 << 10) // only a matter of accuracy
		}
	}
	s.Start()
	return s
}

// Close ends it and cuts all connections.
func (h *Hub) Close() {
	close(h.quit)
	h.hub.CloseClientConnections()
	h.store.CloseClientConnections()
	h.hub.Close()
	h.store.Close()
}

// Add adds a repository, or files to one.
func (h *Hub) Add(repo string, files ...File) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.repos[repo] = append(h.repos[repo], files...)
}

// Misbehave changes the faults from now on.
func (h *Hub) Misbehave(f Faults) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = f
}

// Sent is how many bytes of bodies of files were sent, and Requests how many
// requests came, since the start.
func (h *Hub) Sent() int64 { return h.sent.Load() }

// Requests is how many requests came.
func (h *Hub) Requests() int64 { return h.requests.Load() }

// Leaked returns the Authorization headers that came to the store.
func (h *Hub) Leaked() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaked
}

// Resumed is how many requests of files asked for a rest, and how many of these
// for the rest of what has a known ETag.
func (h *Hub) Resumed() (ranges, ifRange int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ranges), h.ifRange
}

func (h *Hub) misbehaviour() Faults {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults
}

// Content is what a file holds.
func (f File) Content() io.Reader { return io.NewSectionReader(f.content(f.Seed), 0, f.Size) }

// content is that of a file made from another seed.
func (f File) content(seed uint64) content {
	if f.Junk {
		return content{seed: seed}
	}
	return content{seed, map[string]string{".gguf": "GGUF\x03\x00\x00\x00", ".safetensors": "\x02\x00\x00\x00\x00\x00\x00\x00{}"}[path.Ext(f.Path)]}
}

// content is endless and the same every time.
type content struct {
	seed uint64
	head string // what the beginning of a model says
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	var word [8]byte
	for n := 0; n < len(p); {
		at := off + int64(n)
		binary.LittleEndian.PutUint64(word[:], mix(c.seed+uint64(at/8)))
		n += copy(p[n:], word[at%8:])
	}
	if off < int64(len(c.head)) {
		copy(p, c.head[off:])
	}
	return len(p), nil
}

// mix is splitmix64's.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// SHA256 is the hash of a file's content.
func (h *Hub) SHA256(f File) string { return h.sumsOf(f)[0] }

func (h *Hub) sumsOf(f File) [2]string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sums, ok := h.sums[f]; ok {
		return sums
	}
	sum, git := sha256.New(), sha1.New() //nolint:gosec // git's hashes are of it
	fmt.Fprintf(git, "blob %d\x00", f.Size)
	if _, err := io.Copy(io.MultiWriter(sum, git), f.Content()); err != nil {
		panic(err) // it is in memory
	}
	h.sums[f] = [2]string{hex.EncodeToString(sum.Sum(nil)), hex.EncodeToString(git.Sum(nil))}
	return h.sums[f]
}

// refuse answers a request by a fault; false: there is none for it.
func (h *Hub) refuse(w http.ResponseWriter, r *http.Request, f Faults) bool {
	h.requests.Add(1)
	if f.Status == nil {
		return false
	}
	status, header := f.Status(r)
	if status == 0 {
		return false
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	return true
}

func (h *Hub) serveHub(w http.ResponseWriter, r *http.Request) {
	faults := h.misbehaviour()
	if h.refuse(w, r, faults) {
		return
	}
	if faults.Token != "" && r.Header.Get("Authorization") != "Bearer "+faults.Token {
		w.Header().Set("X-Error-Message", "Invalid username or password.")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/models/"); ok {
		h.serveAPI(w, r, rest)
		return
	}
	repo, name, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/"+Commit+"/")
	f, found := h.find(repo, name)
	if !ok || !found {
		w.Header().Set("X-Error-Message", "Entry not found")
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Header().Set("X-Repo-Commit", Commit)
	sums := h.sumsOf(f)
	if !f.LFS {
		h.serveFile(w, r, f, Faults{Rate: faults.Rate}, sums[1])
		return
	}
	linked := sums[0]
	if faults.LinkedETag != "" {
		linked = faults.LinkedETag
	}
	w.Header().Set("X-Linked-Etag", strconv.Quote(linked))
	w.Header().Set("X-Linked-Size", strconv.FormatInt(f.Size, 10))
	if faults.Direct {
		h.serveFile(w, r, f, faults, sums[0])
		return
	}
	to := h.StoreURL + "/" + url.PathEscape(repo) + "/" + url.PathEscape(name) + "?X-Signature=secret"
	http.Redirect(w, r, to, http.StatusFound)
}

func (h *Hub) find(repo, name string) (File, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.repos[repo] {
		if f.Path == name {
			return f, true
		}
	}
	return File{}, false
}

// serveAPI answers org/name/revision/main and org/name/tree/<commit>.
func (h *Hub) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	parts := strings.Split(path, "/")
	h.mu.Lock()
	files, ok := h.repos[strings.Join(parts[:min(2, len(parts))], "/")]
	h.mu.Unlock()
	switch {
	case !ok || len(parts) != 4:
		w.WriteHeader(http.StatusNotFound)
	case parts[2] == "revision" && parts[3] == "main":
		_ = json.NewEncoder(w).Encode(map[string]any{"id": parts[0] + "/" + parts[1], "sha": Commit})
	case parts[2] == "tree" && parts[3] == Commit:
		h.serveTree(w, r, files)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (h *Hub) serveTree(w http.ResponseWriter, r *http.Request, files []File) {
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor")) // none is 0
	page := []map[string]any{{"type": "directory", "oid": Commit, "size": 0, "path": "a-directory"}}
	for _, f := range files[from:min(from+pageSize, len(files))] {
		sums := h.sumsOf(f)
		e := map[string]any{"type": "file", "oid": sums[1], "size": f.Size, "path": f.Path}
		if f.LFS {
			e["oid"], e["lfs"] = Commit, map[string]any{"oid": sums[0], "size": f.Size, "pointerSize": 134}
		}
		page = append(page, e)
	}
	if from+pageSize < len(files) {
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?recursive=true&cursor=%d>; rel="next"`, h.URL, r.URL.Path, from+pageSize))
	}
	_ = json.NewEncoder(w).Encode(page) // to a client that may be gone
}

func (h *Hub) serveStore(w http.ResponseWriter, r *http.Request) {
	faults := h.misbehaviour()
	if auth := r.Header.Get("Authorization"); auth != "" {
		h.mu.Lock()
		h.leaked = append(h.leaked, auth)
		h.mu.Unlock()
	}
	if h.refuse(w, r, faults) {
		return
	}
	repo, name, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	repo, _ = url.PathUnescape(repo) // we escaped them
	name, _ = url.PathUnescape(name)
	f, ok := h.find(repo, name)
	if !ok || r.URL.Query().Get("X-Signature") != "secret" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	h.serveFile(w, r, f, faults, "store-"+h.sumsOf(f)[0][:16])
}

// serveFile serves a file or the rest of one.
func (h *Hub) serveFile(w http.ResponseWriter, r *http.Request, f File, faults Faults, etag string) {
	if faults.ETag != nil {
		etag = faults.ETag()
	}
	etag = strconv.Quote(etag)
	w.Header().Set("ETag", etag)
	size, from, status := f.Size+faults.WrongLength, int64(0), http.StatusOK
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok {
		h.mu.Lock()
		h.ranges = append(h.ranges, text)
		if r.Header.Get("If-Range") != "" {
			h.ifRange++
		}
		h.mu.Unlock()
		if asked := r.Header.Get("If-Range"); !faults.NoRanges && (asked == "" || asked == etag) {
			from, _ = strconv.ParseInt(strings.TrimSuffix(text, "-"), 10, 64)
			status = http.StatusPartialContent
		}
	}
	if from >= size && size > 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	if status == http.StatusPartialContent {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, size-1, size))
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size-from, 10))
	if status == http.StatusPartialContent && faults.Rest != nil {
		status = faults.Rest(w.Header())
	}
	w.WriteHeader(status)
	seed := f.Seed
	if faults.WrongContent {
		seed++
	}
	h.send(w, r, io.NewSectionReader(f.content(seed), from, size-from), faults)
}

// send sends a body, as fast and as far as the faults let it.
func (h *Hub) send(w http.ResponseWriter, r *http.Request, body *io.SectionReader, faults Faults) {
	cut := int64(-1)
	if faults.Cut != nil {
		cut = faults.Cut(body.Size())
	}
	buf := make([]byte, 16<<10)
	for sent := int64(0); ; {
		if cut >= 0 && sent >= cut {
			_ = http.NewResponseController(w).Flush() // what was sent is out
			panic(http.ErrAbortHandler)               // cuts the connection
		}
		if faults.Hang && sent >= body.Size()/2 {
			_ = http.NewResponseController(w).Flush() // what was sent is out
			select {
			case <-faults.GoOn:
				faults.Hang = false
			case <-h.quit:
				panic(http.ErrAbortHandler)
			case <-r.Context().Done():
				panic(http.ErrAbortHandler)
			}
		}
		n, _ := body.Read(buf) // it is in memory
		if n == 0 {
			return
		}
		if cut >= 0 {
			n = int(min(int64(n), cut-sent))
		}
		n, err := w.Write(buf[:n])
		sent += int64(n)
		h.sent.Add(int64(n))
		if err != nil {
			return
		}
		if faults.Rate > 0 {
			_ = http.NewResponseController(w).Flush() // else the end of the pause is the start of the body
			select {
			case <-time.After(time.Duration(n) * time.Second / time.Duration(faults.Rate)):
			case <-r.Context().Done():
				return
			}
		}
	}
}
