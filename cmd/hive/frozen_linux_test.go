package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A hive that is frozen (docker pause, a laptop that sleeps) reads renewals when it is thawed,
// and finds all times over by then. A renewal that was sent before the end of the lease counts.
func TestRenewalsThatAFrozenHiveHasNotRead(t *testing.T) {
	s := newSite(t, "")
	p := s.start(t)
	const leases = 12 // some of which would lose the race between timer and request
	type lease struct {
		Port    int    `json:"port"`
		LeaseID string `json:"lease_id"`
	}
	held := make([]lease, leases)
	for i := range held {
		code, body := call(t, http.MethodPost, p.url+"/v1/leases", `{"ttl": "1s"}`)
		require.Equal(t, http.StatusCreated, code, body)
		require.NoError(t, json.Unmarshal([]byte(body), &held[i]))
	}
	p.signal(syscall.SIGSTOP)
	codes := make(chan string, leases)
	for _, l := range held {
		go func() {
			code, body := call(t, http.MethodPut, fmt.Sprintf("%s/v1/leases/%d", p.url, l.Port), fmt.Sprintf(`{"lease_id": %q, "ttl": "1m"}`, l.LeaseID))
			codes <- fmt.Sprint(code, " ", body)
		}()
	}
	time.Sleep(2 * time.Second)
	p.signal(syscall.SIGCONT)
	for range held {
		said := <-codes
		require.True(t, strings.HasPrefix(said, "200 "), said)
	}
	// One that nobody renews ends all the same.
	code, body := call(t, http.MethodPost, p.url+"/v1/leases", `{"ttl": "1s"}`)
	require.Equal(t, http.StatusCreated, code, body)
	p.signal(syscall.SIGSTOP)
	time.Sleep(2 * time.Second)
	p.signal(syscall.SIGCONT)
	require.Eventually(t, func() bool {
		_, body, err := get(p.url + "/v1/leases")
		return err == nil && strings.Count(body, `"lease_id"`) == leases
	}, testTimeout, 20*time.Millisecond)
	p.signal(syscall.SIGTERM)
	p.end()
}

func call(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}
