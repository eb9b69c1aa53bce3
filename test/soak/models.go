package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	"rbeehive/test/hub"
)

// models is how many the hub has, and modelSize the bytes of the smallest.
const (
	models    = 6
	modelSize = 1 << 20
)

// fillHub puts models on the hub, every fifth of whose connections is cut.
func (r *run) fillHub() {
	for n := range models {
		r.hub.Add(model(n), hub.File{Path: "model.gguf", Size: modelSize * int64(1+n%3), Seed: uint64(n), LFS: true})
	}
	r.hub.Misbehave(hub.Faults{
		Rate: 4 << 20,
		Cut: func(rest int64) int64 {
			if rand.IntN(5) > 0 {
				return -1
			}
			r.tally.Add("connections of the hub cut", 1)
			return rand.Int64N(rest)
		},
	})
}

func model(n int) string { return fmt.Sprintf("org/model-%d", n) }

// ofModel are the codes of what two clients do with one model.
var ofModel = []string{"model_in_use", "not_found", "cancelled", "conflict"}

// download has hive download a model, or one time in four the beginning of one, and
// delete it.
func (c *client) download(ctx context.Context) {
	id := model(c.rnd.IntN(models))
	get := harness.Op{"operation": "model_download", "model": id}
	if c.oneIn(4) {
		c.giveUp(ctx, get)
	} else {
		c.went(ctx, "downloaded", c.hive.Succeed(ctx, get, nil), ofModel...)
	}
	c.pause(c.upTo(time.Second))
	err := c.hive.Succeed(ctx, harness.Op{"operation": "model_delete", "id": id}, nil)
	c.went(ctx, "models deleted", err, ofModel...)
}

// giveUp cancels a download under way. What came of it stays for the next one.
func (c *client) giveUp(ctx context.Context, get harness.Op) {
	var job wire.Submitted
	if !c.went(ctx, "downloads begun", c.hive.Call(ctx, http.MethodPost, "/v1/jobs", get, &job), ofModel...) {
		return
	}
	c.pause(c.upTo(300 * time.Millisecond))
	c.went(ctx, "downloads cancelled", c.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+job.JobID, nil, nil), ofModel...)
}
