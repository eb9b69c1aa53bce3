package main

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// follow follows something for a while and goes, as people do; one time in three so
// slowly that what comes piles up.
func (c *client) follow(ctx context.Context) {
	path, ok := c.stream(ctx)
	if !ok {
		return
	}
	following, stop := context.WithTimeout(c.working, time.Second+c.upTo(10*time.Second))
	defer stop()
	body, err := c.hive.Stream(following, path)
	// What was to be followed may have gone since it was looked for.
	if following.Err() != nil || !c.went(ctx, "streams", err, "not_found", "events_gone") {
		return
	}
	defer body.Close()
	if !c.oneIn(3) {
		_, err = io.Copy(io.Discard, body)
	} else {
		c.tally.Add("slow streams", 1)
		err = crawl(following, body)
	}
	// A stream ends with its job or worker, and is cut when events are removed before
	// they were sent: then it breaks off.
	if err != nil && following.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		c.tally.Violation("WRONG", "%s: %v", path, err)
	}
}

// crawl reads about 5 KiB a second.
func crawl(ctx context.Context, body io.Reader) error {
	buf := make([]byte, 512)
	for harness.Sleep(ctx, 100*time.Millisecond) {
		if _, err := body.Read(buf); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	return nil
}

// stream is what is to be followed; false if that cannot be found.
func (c *client) stream(ctx context.Context) (path string, ok bool) {
	switch c.rnd.IntN(5) {
	case 0:
		return "/v1/events?after=latest", true
	case 1:
		return "/v1/events", true // from the oldest one on, of which there are thousands
	case 2:
		return "/v1/heartbeats/stream", true
	case 3:
		w, ok := c.anyWorker(ctx)
		return "/v1/workers/" + w.WorkerID + "/logs?follow=1", ok
	}
	var page wire.Jobs
	err := c.hive.Get(ctx, "/v1/jobs?limit=20", &page)
	if !c.went(ctx, "queries", err) || len(page.Jobs) == 0 {
		return "", false
	}
	return "/v1/jobs/" + page.Jobs[c.rnd.IntN(len(page.Jobs))].JobID + "/events", true
}
