package hive_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/errdefs"
)

// newQueen returns her URL and what she hears.
func newQueen(t *testing.T) (url string, heard func() []string) {
	t.Helper()
	var mu sync.Mutex
	var all []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			all = append(all, err.Error())
		}
		all = append(all, r.Method+" "+r.URL.Path+" "+string(body))
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, all...)
	}
}

func TestTheHiveIsAnnounced(t *testing.T) {
	const word = `POST /v1/hive/ready {"hive_id":"localhost","hive_url":"http://127.0.0.1:1"}`
	configured, byConfig := newQueen(t)
	met, byMeeting := newQueen(t)
	other, byReload := newQueen(t)
	r := newRig(t, 1)
	r.cfg.QueenURL = configured
	r.open()
	r.eventually("the configured queen", func() bool { return len(byConfig()) == 1 })
	require.Equal(t, []string{word}, byConfig())

	ctx := context.Background()
	require.NoError(t, r.h.MeetQueen(ctx, configured), "she is not remembered as one who came")
	require.NoError(t, r.h.MeetQueen(ctx, met))
	require.NoError(t, r.h.MeetQueen(ctx, met+"/"))
	r.eventually("the one that came", func() bool { return len(byMeeting()) == 1 })
	err := r.h.MeetQueen(ctx, "queen:7833")
	require.ErrorIs(t, err, errdefs.ErrBadRequest)
	require.ErrorContains(t, err, "queen_url: expected the URL of a queen")

	plan, err := r.h.Reload(ctx, hive.ReloadConfig{Catalog: r.cfg.Catalog, Settings: hive.Settings{QueenURL: other}}, true)
	require.NoError(t, err)
	require.True(t, plan.Applies("queen_url"))
	require.Empty(t, byReload(), "a dry run")
	_, err = r.h.Reload(ctx, hive.ReloadConfig{Catalog: r.cfg.Catalog, Settings: hive.Settings{QueenURL: "nonsense"}}, false)
	require.ErrorIs(t, err, errdefs.ErrInvalidConfiguration)
	_, err = r.h.Reload(ctx, hive.ReloadConfig{Catalog: r.cfg.Catalog, Settings: hive.Settings{QueenURL: other}}, false)
	require.NoError(t, err)
	r.eventually("the new one", func() bool { return len(byReload()) == 1 })
	require.Len(t, byConfig(), 1)
	require.Len(t, byMeeting(), 1)

	// After a restart each is told anew, also the one that only came.
	r.close()
	r.cfg.QueenURL = ""
	r.open()
	r.eventually("the one that is remembered", func() bool { return len(byMeeting()) == 2 })
	require.Len(t, byConfig(), 1)
	require.Len(t, byReload(), 1)
}

func TestUnreachable(t *testing.T) {
	for _, c := range []struct {
		queen, hive, want string
	}{
		{"", "http://127.0.0.1:7835", ""},
		{"http://127.0.0.1:7833", "http://127.0.0.1:7835", ""},
		{"http://localhost:7833", "http://[::1]:7835", ""},
		{"http://queen.lan:7833", "http://gpubox.lan:7835", ""},
		{"http://queen.lan:7833", "http://127.0.0.1:7835", "advertise"},
		{"http://10.0.0.7:7833", "http://localhost:7835", "advertise"},
		{"http://127.0.0.1:7833", "unix:/run/hive.sock", "socket"},
	} {
		got := hive.Unreachable(c.queen, c.hive)
		if c.want == "" {
			require.Empty(t, got, "%+v", c)
			continue
		}
		require.Contains(t, got, c.want, "%+v", c)
	}
}

func TestDevices(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	devices, err := r.h.Devices(t.Context())
	require.NoError(t, err)
	cpu := devices[len(devices)-1]
	require.Equal(t, "CPU-0", cpu.ID)
	require.Positive(t, cpu.MemoryMiB)
	h := r.h
	r.close()
	again, err := h.Devices(t.Context())
	require.NoError(t, err, "what is known needs no hive")
	require.Equal(t, devices, again)
}
