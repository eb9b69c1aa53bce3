package models_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/models"
	"rbeehive/test/hub"
)

// Twenty cuts at random, and five times the library and all that it knew is gone.
func TestCutTwentyTimes(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 64 * mib, Seed: 7, LFS: true}
	r.hub.Add("org/name", f)
	var cuts atomic.Int32
	r.hub.Misbehave(hub.Faults{Cut: func(rest int64) int64 {
		if cuts.Add(1) > 20 {
			return -1
		}
		return rand.Int64N(6 * mib) // of 64 in 20 cuts: some are left
	}})
	for kills := range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		lib := r.lib
		go func() { _, err := lib.Download(ctx, "org/name", nil); done <- err }()
		require.Eventually(t, func() bool { return r.hub.Sent() > int64(kills+1)*4*mib || len(done) > 0 }, time.Minute, time.Millisecond)
		cancel()
		<-done
		r.open()
	}
	m, err := r.download("org/name")
	require.NoError(t, err)
	require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))
	require.Equal(t, []string{"org%2Fname/m.gguf", "org%2Fname/metadata.json"}, r.files())
	require.LessOrEqual(t, r.hub.Sent(), f.Size+f.Size/10)
	ranges, ifRange := r.hub.Resumed()
	require.NotZero(t, ranges)
	require.Equal(t, ranges, ifRange, "every rest was asked for with the ETag of the beginning")
}

func TestFaults(t *testing.T) {
	const size = 2 * mib
	status := func(part string, status int, header http.Header) func(*http.Request) (int, http.Header) {
		return func(r *http.Request) (int, http.Header) {
			if strings.Contains(r.URL.Path, part) {
				return status, header
			}
			return 0, nil
		}
	}
	var etags atomic.Int32
	for name, tt := range map[string]struct {
		faults hub.Faults
		err    error
		says   string
	}{
		"wrong hash": {hub.Faults{WrongContent: true}, models.ErrCorrupt, "the hub lists"},
		// What was cut is fetched anew once more: a part of it may be from elsewhere.
		"wrong and cut": {hub.Faults{WrongContent: true, Cut: func(rest int64) int64 {
			if rest == size {
				return rest / 2
			}
			return -1
		}}, models.ErrCorrupt, "the hub lists"},
		"changed ETag":  {hub.Faults{LinkedETag: strings.Repeat("ab", 32)}, models.ErrCorrupt, "has changed on the hub"},
		"too short":     {hub.Faults{WrongLength: -10}, models.ErrCorrupt, "has 2097142 bytes"},
		"too long":      {hub.Faults{WrongLength: 10}, models.ErrCorrupt, "has 2097162 bytes"},
		"not there":     {hub.Faults{Status: status("/revision/", 404, nil)}, models.ErrNotFound, "repository org/name"},
		"private":       {hub.Faults{Token: "secret"}, models.ErrUnauthorized, "HF_TOKEN"},
		"gated":         {hub.Faults{Status: status("/resolve/", 403, http.Header{"X-Error-Message": {"ask\nfirst"}})}, models.ErrUnauthorized, "ask first"},
		"always busy":   {hub.Faults{Status: status("/tree/", 429, nil)}, models.ErrUnavailable, "429"},
		"broken":        {hub.Faults{Status: status("/resolve/", 502, nil)}, models.ErrUnavailable, "502"},
		"always cut":    {hub.Faults{Cut: func(int64) int64 { return 100 }}, models.ErrUnavailable, "was cut off after"},
		"refused there": {hub.Faults{Status: status("/org%2Fname", 403, nil)}, nil, ""},
		"begins anew": {
			hub.Faults{Cut: func(rest int64) int64 { return rest / 2 }, ETag: func() string { etags.Add(1); return string('a' + etags.Load()) }},
			models.ErrUnavailable, "was restarted",
		},
		"no ranges": {hub.Faults{Cut: func(rest int64) int64 { return rest / 2 }, NoRanges: true}, models.ErrUnavailable, "was restarted"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.err == nil {
				tt.faults.Status = status("/org/name/m.gguf", 403, nil) // decoded, at the store
				tt.err, tt.says = models.ErrUnavailable, "403"
			}
			r := newRig(t)
			r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: size, Seed: 3, LFS: true})
			r.hub.Misbehave(tt.faults)
			_, err := r.download("org/name")
			require.ErrorIs(t, err, tt.err)
			require.ErrorContains(t, err, tt.says)
			require.NotContains(t, err.Error(), "secret", "signatures and tokens are nobody's business")
			require.NotContains(t, err.Error(), "\n")
			r.requireNoModel()

			r.hub.Misbehave(hub.Faults{})
			m, err := r.download("org/name")
			require.NoError(t, err, "and nothing is spoilt for the next time")
			require.Equal(t, r.hub.SHA256(hub.File{Path: "m.gguf", Size: size, Seed: 3, LFS: true}), sumOf(t, m.Path))
		})
	}
}

// What was seen: a mirror that answers a range with 200, and a download that failed with
// "has 1048576 bytes, but the hub lists 2097152" whenever it was asked for again.
func TestMirrorsThatAreOddAboutRanges(t *testing.T) {
	const size, half = 2 * mib, mib
	f := hub.File{Path: "m.gguf", Size: size, Seed: 3, LFS: true}
	for name, tt := range map[string]struct {
		rest func(http.Header) int
		sent int64 // in all: what is provably the rest is not fetched twice
	}{
		"200 with a Content-Range":    {func(http.Header) int { return 200 }, size},
		"200 without one":             {func(h http.Header) int { h.Del("Content-Range"); return 200 }, half + half + size},
		"200 with that of another":    {func(h http.Header) int { h.Set("Content-Range", "bytes 5-9/2097152"); return 200 }, half + half + size},
		"206 as if it were all":       {func(h http.Header) int { h.Set("Content-Range", "bytes 0-1048575/1048576"); return 206 }, half + half + size},
		"206 without a Content-Range": {func(h http.Header) int { h.Del("Content-Range"); return 206 }, half + half + size},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.opts.Tries = 1
			r.open()
			r.hub.Add("org/name", f)
			r.hub.Misbehave(hub.Faults{Cut: func(int64) int64 { return half }})
			_, err := r.download("org/name")
			require.ErrorIs(t, err, models.ErrUnavailable)

			r.hub.Misbehave(hub.Faults{Rest: tt.rest})
			if _, err = r.download("org/name"); err != nil {
				require.ErrorIs(t, err, models.ErrUnavailable, "not corrupt: that is what the hub lists")
				_, err = r.download("org/name")
			}
			require.NoError(t, err, "not the same error for ever")
			m, err := r.lib.Get("org/name")
			require.NoError(t, err)
			require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))
			require.LessOrEqual(t, r.hub.Sent(), tt.sent)
		})
	}
}

func TestWaitsAsLongAsTheHubSays(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: mib, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	var busy atomic.Int32
	r.hub.Misbehave(hub.Faults{Status: func(*http.Request) (int, http.Header) {
		if busy.Add(1) == 1 {
			return 429, http.Header{"Retry-After": {"1"}}
		}
		return 0, nil
	}})
	begun := time.Now()
	_, err := r.download("org/name")
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(begun), time.Second)
}

// stall is short, but not for answers that a loaded machine makes: it is also how long
// the header of each may take.
const stall = 2 * time.Second

// A stalled connection is given up, and what is left is asked for anew.
func TestStall(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.opts.Stall, r.opts.Tries = stall, 2
	r.open()
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: mib, Seed: 3, LFS: true})
	r.hub.Misbehave(hub.Faults{Hang: true})
	_, err := r.download("org/name")
	require.ErrorIs(t, err, models.ErrUnavailable)
	require.ErrorContains(t, err, "less than 65.5 kB was received in 2s")
}

// A byte now and then is no more than nothing.
func TestDrip(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.opts.Stall, r.opts.Tries = stall, 2
	r.open()
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: mib, Seed: 3, LFS: true})
	r.hub.Misbehave(hub.Faults{Rate: 16 << 10}) // 16 KiB each second, or later
	_, err := r.download("org/name")
	require.ErrorIs(t, err, models.ErrUnavailable)
	require.ErrorContains(t, err, "less than 65.5 kB was received in 2s")
}

// Also an answer about files, or one that nobody wants to read, may stop in the middle.
func TestStallOfTheList(t *testing.T) {
	r := newRig(t)
	for _, status := range []int{http.StatusOK, http.StatusServiceUnavailable} {
		hung := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"sha":`)
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		}))
		t.Cleanup(hung.Close)
		r.opts.Endpoint, r.opts.Stall = hung.URL, 50*time.Millisecond
		r.open()
		begun := time.Now()
		_, err := r.download("org/name")
		require.ErrorIs(t, err, models.ErrUnavailable, status)
		require.Less(t, time.Since(begun), 30*time.Second)
	}
}

// What a hub says at length does not fill the state file: notes become events.
func TestLongAnswersAreCutShort(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func() string
		most   int
	}{
		"status":  {func() string { return "HTTP/1.1 503 " + strings.Repeat("x", 50_000) + "\r\nContent-Length: 0\r\n\r\n" }, 300},
		"garbage": {func() string { return strings.Repeat("x", 1<<20) + "\r\n\r\n" }, 70_000},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			served := make(chan struct{})
			go func() {
				defer close(served)
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(conn, tt.answer()) // before it is asked, and the client may have left
					_ = conn.Close()
				}
			}()
			t.Cleanup(func() { _ = l.Close(); <-served })
			r := newRig(t)
			r.opts.Endpoint, r.opts.RetryMin, r.opts.RetryMax = "http://"+l.Addr().String(), 600*time.Millisecond, 600*time.Millisecond
			r.open()
			var notes []string
			_, err = r.lib.Download(t.Context(), "org/name", func(p models.Progress) { notes = append(notes, p.Note) })
			require.ErrorIs(t, err, models.ErrUnavailable)
			require.NotEmpty(t, notes)
			for _, said := range append(notes, err.Error()) {
				require.Less(t, len(said), tt.most)
			}
		})
	}
}

func TestTokenStaysWithTheHub(t *testing.T) {
	r := newRig(t)
	r.opts.Token = "hf_secret"
	r.open()
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: mib, Seed: 3, LFS: true})
	r.hub.Misbehave(hub.Faults{Token: "hf_secret"})
	_, err := r.download("org/name")
	require.NoError(t, err)
	require.Empty(t, r.hub.Leaked())
}

func TestDiskFull(t *testing.T) {
	r := newRig(t)
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: 70 * mib, Seed: 3, LFS: true})
	r.opts.Reserve = mib
	r.opts.Free = func(string) (int64, error) { return 70 * mib, nil }
	r.open()
	_, err := r.download("org/name")
	require.ErrorIs(t, err, models.ErrDiskFull)
	require.ErrorContains(t, err, "needs 73.4 MB more and 72.4 MB is available")
	require.Zero(t, r.hub.Sent(), "nothing was fetched")
	require.Empty(t, r.entries())
	r.requireNoModel()

	var looks atomic.Int32
	r.opts.Free = func(string) (int64, error) {
		if looks.Add(1) == 1 {
			return 200 * mib, nil
		}
		return 0, nil // somebody else has filled it
	}
	r.open()
	_, err = r.download("org/name")
	require.ErrorIs(t, err, models.ErrDiskFull)
	require.Less(t, r.hub.Sent(), int64(70*mib))
	require.Empty(t, r.files(), "half a model does not keep the disk full")
}

// What a download that goes on has on the disk is not space that it still needs, also
// before it was read again.
func TestSpaceForTwoWhenOneIsNearlyThere(t *testing.T) {
	r := newRig(t)
	last := hub.File{Path: "b.safetensors", Size: 40 * mib, Seed: 4, LFS: true}
	r.hub.Add("org/nearly", hub.File{Path: "a.safetensors", Size: mib, Seed: 3, LFS: true}, last)
	r.hub.Add("org/other", hub.File{Path: "m.gguf", Size: 10 * mib, Seed: 5, LFS: true})
	path := sha256.Sum256([]byte(last.Path))
	dir := filepath.Join(r.dir, ".partial", models.Escape("org/nearly"))
	require.NoError(t, os.MkdirAll(dir, 0o700))
	content, err := io.ReadAll(last.Content())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, r.hub.SHA256(last)+"-"+hex.EncodeToString(path[:4])+".part"), content, 0o600))
	r.opts.Reserve = mib
	r.opts.Free = func(string) (int64, error) { return 20 * mib, nil }
	r.open()
	r.hub.Misbehave(hub.Faults{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := r.lib.Download(ctx, "org/nearly", nil); done <- err }()
	require.Eventually(t, func() bool { return r.hub.Sent() > 0 }, 10*time.Second, time.Millisecond)
	r.hub.Misbehave(hub.Faults{})
	_, err = r.download("org/other")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	require.NoError(t, err)
}

// After a loss of power a file that was just written can hold zeros.
func TestAnETagOfZeros(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 4 * mib, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	r.hub.Misbehave(hub.Faults{Hang: true})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := r.lib.Download(ctx, "org/name", nil); done <- err }()
	require.Eventually(t, func() bool { return r.hub.Sent() > mib }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	etags, err := filepath.Glob(filepath.Join(r.dir, ".partial", "*", "*.etag"))
	require.NoError(t, err)
	require.Len(t, etags, 1)
	require.NoError(t, os.WriteFile(etags[0], make([]byte, 30), 0o600))
	r.hub.Misbehave(hub.Faults{})
	m, err := r.download("org/name")
	require.NoError(t, err)
	require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))
}

// Two hives that were given one directory do not write to the same file.
func TestTwoLibrariesOfOneDirectory(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 4 * mib, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	r.hub.Misbehave(hub.Faults{Hang: true})
	first := r.lib
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := first.Download(ctx, "org/name", nil); done <- err }()
	require.Eventually(t, func() bool { return r.hub.Sent() > 0 }, 10*time.Second, time.Millisecond)
	r.open()
	_, err := r.download("org/name")
	require.ErrorIs(t, err, models.ErrInUse)
	require.ErrorContains(t, err, "the same models.dir")
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	r.hub.Misbehave(hub.Faults{})
	m, err := r.download("org/name")
	require.NoError(t, err)
	require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))
}
