package httpapi_test

import (
	"bufio"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/test/hub"
)

// rbee's keeper waits ten minutes for a download: its stream is not ended like that
// of a spawn, and its page finds what it reads of a list.
func TestRbeeFollowsADownload(t *testing.T) {
	server := hub.Start()
	t.Cleanup(server.Close)
	server.Add("org/one", hub.File{Path: "m.gguf", Size: 1 << 20, Seed: 1, LFS: true})
	goOn := make(chan struct{})
	enough := sync.OnceFunc(func() { close(goOn) })
	server.Misbehave(hub.Faults{Hang: true, GoOn: goOn})
	r := newRig(t, rigOptions{streamWait: 100 * time.Millisecond, models: hive.ModelsConfig{Endpoint: server.URL}})
	read := func(operation string) string {
		resp := r.open(r.submit(operation).SSEURL)
		defer resp.Body.Close()
		var text strings.Builder
		lines := bufio.NewScanner(io.TeeReader(resp.Body, &text))
		for lines.Scan() {
			if strings.Contains(lines.Text(), "of 1.0 MB") {
				enough() // of the download has been seen
			}
		}
		require.NoError(t, lines.Err())
		return text.String()
	}
	text := read(`{"operation":"model_download","hive_id":"localhost","model":"org/one"}`)
	require.True(t, strings.HasSuffix(text, "data: [DONE]\n\n"), text)
	require.Contains(t, text, "of 1.0 MB")
	text = read(`{"operation":"model_list","hive_id":"localhost"}`)
	require.Contains(t, text, "event: data\ndata: {\"action\":\"model_list\",\"payload\":{\"models\":[{\"id\":\"org/one\",\"name\":\"one\",\"size\":\"1.0 MB\",\"size_bytes\":1048576,\"path\":\"/")
	require.Contains(t, text, `"status":"available","loaded":false`)
}
