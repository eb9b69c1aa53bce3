package harness_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/test/harness"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is an instance that a handler stands in for.
func fake(t *testing.T, paths map[string]http.HandlerFunc) *harness.Instance {
	t.Helper()
	i, err := harness.New("not-started", 1, "[]")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close(nil)) })
	mux := http.NewServeMux()
	for path, handler := range paths {
		mux.HandleFunc(path, handler)
	}
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	i.API = strings.TrimPrefix(server.URL, "http://")
	return i
}

// says answers with a status and a text.
func says(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
}

func TestEventually(t *testing.T) {
	checks := 0
	err := harness.Eventually(t.Context(), time.Minute, func() (string, error) {
		if checks++; checks < 3 {
			return "not yet", nil
		}
		return "", nil
	})
	require.NoError(t, err)
	require.Equal(t, 3, checks)

	err = harness.Eventually(t.Context(), 30*time.Millisecond, func() (string, error) { return "never", nil })
	require.ErrorIs(t, err, harness.ErrTimeout)
	require.ErrorContains(t, err, "never")

	broken := errors.New("broken")
	err = harness.Eventually(t.Context(), time.Minute, func() (string, error) { return "and so on", broken })
	require.Equal(t, broken, err)

	ctx, cancel := context.WithCancel(t.Context())
	err = harness.Eventually(ctx, time.Minute, func() (string, error) { cancel(); return "not yet", nil })
	require.ErrorIs(t, err, context.Canceled)
}

// A program that finds something must fail, and so must one that has done nothing.
func TestVerdict(t *testing.T) {
	tally := new(harness.Program).NewTally()
	require.ErrorContains(t, tally.Verdict("kills"), `no "kills"`)
	tally.Add("kills", 2)
	require.NoError(t, tally.Verdict("kills"))
	for range 2 {
		tally.Violation("LEAK", "port %d", 9000)
	}
	tally.Violation("LEAK", "port %d", 9001)
	require.Equal(t, 2, tally.Violations("LEAK"), "each is counted once")
	require.ErrorContains(t, tally.Verdict("kills"), "2 LEAK")
	require.Equal(t, "2 kills; violated: 2 LEAK", tally.String())
}

func TestErrorsOfCalls(t *testing.T) {
	i := fake(t, map[string]http.HandlerFunc{
		"/refused":    says(http.StatusConflict, `{"code":"port_unavailable","detail":"taken"}`),
		"/odd":        says(http.StatusInternalServerError, "no JSON"),
		"/recovering": says(http.StatusServiceUnavailable, `{"code":"recovering"}`),
		"/cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		},
	})
	err := i.Get(t.Context(), "/refused", nil)
	require.NotErrorIs(t, err, harness.ErrUnavailable)
	require.Equal(t, "port_unavailable", harness.Code(err))
	err = i.Get(t.Context(), "/odd", nil)
	require.NotErrorIs(t, err, harness.ErrUnavailable)
	require.EqualError(t, err, "500 : no JSON")
	require.ErrorIs(t, i.Get(t.Context(), "/recovering", nil), harness.ErrUnavailable)
	require.ErrorIs(t, i.Get(t.Context(), "/cut", nil), harness.ErrUnavailable)
	// Bound by a socket that does not listen: nobody else can serve there meanwhile.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	bound, err := unix.Getsockname(fd)
	require.NoError(t, err)
	i.API = fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	require.ErrorIs(t, i.Get(t.Context(), "/", nil), harness.ErrUnavailable)
}

// A job that is not finished in time is asked for again, and one that hive no longer
// knows is lost: that is not the same as a hive that does not answer.
func TestDo(t *testing.T) {
	const accepted = `{"job_id":"job-1"}`
	asked := 0
	i := fake(t, map[string]http.HandlerFunc{
		"POST /v1/jobs": says(http.StatusAccepted, accepted),
		"GET /v1/jobs/job-1": func(w http.ResponseWriter, r *http.Request) {
			switch asked++; asked {
			case 1:
				says(http.StatusServiceUnavailable, `{"code":"recovering"}`)(w, r)
			case 2:
				says(http.StatusOK, `{"job_id":"job-1","state":"failed","finished_at":"2026-01-02T03:04:05Z","error":{"code":"exited_early"}}`)(w, r)
			default:
				says(http.StatusNotFound, `{"code":"not_found"}`)(w, r)
			}
		},
	})
	err := i.Succeed(t.Context(), harness.Spawn("cpu"), nil)
	require.Equal(t, "exited_early", harness.Code(err))
	require.Equal(t, 2, asked)
	_, err = i.Do(t.Context(), harness.Spawn("cpu"))
	require.ErrorContains(t, err, "job-1 was accepted")
	require.NotErrorIs(t, err, harness.ErrUnavailable)
	require.Empty(t, harness.Code(err))
}

func TestFinalChecksFindALease(t *testing.T) {
	i := fake(t, map[string]http.HandlerFunc{"/v1/leases": says(http.StatusOK, `{"leases":[{"port":9000,"state":"held"}]}`)})
	require.ErrorContains(t, i.FinalChecks(t.Context(), 0), "1 leases are left, one of them of port 9000, held")
}

// Close ends the process after that.
func TestFinalChecksFindAProcess(t *testing.T) {
	i := fake(t, map[string]http.HandlerFunc{"/v1/leases": says(http.StatusOK, `{"leases":[]}`)})
	require.NoError(t, i.FinalChecks(t.Context(), 0))
	left := exec.CommandContext(t.Context(), "sleep", "600")
	left.Env = append(os.Environ(), i.Mark(), "RBEEHIVE_WORKER=cpu-9000-abcdef")
	require.NoError(t, left.Start())
	t.Cleanup(func() { _ = left.Wait() })
	require.Eventually(t, func() bool { return harness.IsWorker(left.Process.Pid, "cpu-9000-abcdef") }, 10*time.Second, time.Millisecond)
	require.ErrorContains(t, i.FinalChecks(t.Context(), 0), "1 processes of workers are left")
	require.EqualError(t, i.Close(errors.New("what was found")), "what was found\nhive's output ends with:\n")
	require.False(t, harness.IsWorker(left.Process.Pid, "cpu-9000-abcdef"))
	require.NoDirExists(t, i.Dir)
}

func TestUsage(t *testing.T) {
	i := fake(t, map[string]http.HandlerFunc{"/metrics": says(http.StatusOK, "go_goroutines 30\ngo_threads 9\nprocess_open_fds 1.7e+01\n")})
	now, err := i.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, harness.Usage{FDs: 17, Threads: 9, Goroutines: 30}, now)
	for _, before := range []harness.Usage{{16, 9, 30}, {17, 8, 30}, {17, 9, 29}} {
		objection, err := i.UsesAtMost(before, harness.Usage{})(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, objection)
		objection, err = i.UsesAtMost(before, harness.Usage{FDs: 1, Threads: 1, Goroutines: 1})(t.Context())
		require.NoError(t, err)
		require.Empty(t, objection)
	}
}

// A running hive reads its file when it likes: it finds a whole one.
func TestConfigure(t *testing.T) {
	i, err := harness.New("not-started", 3, "[]", "audit: {interval: 1s}")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, i.Close(nil)) })
	path := filepath.Join(i.Dir, "hive.yaml")
	before, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(before), "audit: {interval: 1s}")
	open, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = open.Close() })
	require.NoError(t, i.Configure("[{name: other}]"))
	after, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, strings.NewReplacer("workers: []", "workers: [{name: other}]", "audit: {interval: 1s}", "").Replace(string(before)), string(after))
	still, err := io.ReadAll(open)
	require.NoError(t, err)
	require.Equal(t, before, still, "it was replaced, not changed")
}

func TestStream(t *testing.T) {
	i := fake(t, map[string]http.HandlerFunc{"/lines": says(http.StatusOK, "one\n"), "/refused": says(http.StatusNotFound, `{"code":"not_found"}`)})
	body, err := i.Stream(t.Context(), "/lines")
	require.NoError(t, err)
	text, err := io.ReadAll(body)
	require.NoError(t, err)
	require.NoError(t, body.Close())
	require.Equal(t, "one\n", string(text))
	_, err = i.Stream(t.Context(), "/refused")
	require.Equal(t, "not_found", harness.Code(err))
}
