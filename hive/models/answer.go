package models

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// checkSource compares what the hub says about the file on the way to it with its list.
func (d *download) checkSource(resp *http.Response) error {
	// The hub says this in its redirect, not in the answer of the store that it sends us to.
	for hop := resp; hop != nil; hop = hop.Request.Response {
		h := hop.Header
		if commit := h.Get("X-Repo-Commit"); commit != "" && commit != d.commit {
			return fmt.Errorf("%w: %s comes from commit %s, but %s was requested", ErrCorrupt, d.remote.Path, clip(commit), d.commit)
		}
		if etag := strings.Trim(strings.TrimPrefix(h.Get("X-Linked-Etag"), "W/"), `"`); etag != "" && d.remote.LFS != "" && etag != d.remote.LFS {
			return fmt.Errorf("%w: %s has changed on the hub while it was downloaded: its hash is now %s, and was listed as %s", ErrCorrupt, d.remote.Path, clip(etag), d.remote.LFS)
		}
		if size := h.Get("X-Linked-Size"); size != "" && size != strconv.FormatInt(d.remote.Size, 10) {
			return d.wrongLength(clip(size))
		}
	}
	return nil
}

func (d *download) wrongLength(got string) error {
	return fmt.Errorf("%w: %s has %s bytes, but the hub lists %d", ErrCorrupt, d.remote.Path, got, d.remote.Size)
}

// unfit is the error for an answer of a wrong length. If it was to be the rest of a file, the
// file is begun anew: a server that gets ranges wrong would do so in each download that
// finds this partial file.
func (d *download) unfit(rest bool, got string) error {
	if !rest {
		return d.wrongLength(got)
	}
	return d.restartNextTry("an answer of %s bytes came that is not the rest of %s", got, d.remote.Path)
}

var rangeRE = regexp.MustCompile(`^bytes (?:(\d+)-\d+|\*)/(\d+|\*)$`)

// checkAnswer makes sure that the answer is the rest of the file. If it is the whole
// of it, or the rest of something else, what is there is thrown away.
func (d *download) checkAnswer(resp *http.Response) error {
	etag := resp.Header.Get("ETag")
	// A weak one does not promise the same bytes, and is not allowed in If-Range (RFC 9110).
	if strings.HasPrefix(etag, "W/") {
		etag = ""
	}
	of := rangeRE.FindStringSubmatch(resp.Header.Get("Content-Range"))
	if of != nil && of[2] != "*" && of[2] != strconv.FormatInt(d.remote.Size, 10) {
		return d.unfit(d.at > 0, of[2])
	}
	// Some mirrors answer a range with 200. What says that it is the rest, as long as that, is it.
	rest := of != nil && of[1] == strconv.FormatInt(d.at, 10) &&
		(resp.StatusCode == http.StatusPartialContent || resp.StatusCode == http.StatusOK && resp.ContentLength == d.remote.Size-d.at)
	switch status := resp.StatusCode; {
	case rest:
		if d.etag != "" && etag != "" && etag != d.etag {
			return d.restartNextTry("%s has changed where it lies", d.remote.Path)
		}
	// The whole file, whatever was asked for: servers need not support ranges.
	case status == http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != d.remote.Size {
			return d.unfit(d.at > 0, strconv.FormatInt(resp.ContentLength, 10))
		}
		if d.at > 0 { // what is there is of something else, or cannot be continued
			if err := d.again(); err != nil {
				return err
			}
		}
	case status == http.StatusPartialContent, status == http.StatusRequestedRangeNotSatisfiable:
		return d.restartNextTry("another part of %s came than was asked for", d.remote.Path)
	// A signed address may expire during a long download; the hub gives a new one.
	case status >= 500 || status == http.StatusTooManyRequests, d.elsewhere(resp):
		return transient{fmt.Errorf("%w: %s returned %s for %s", ErrUnavailable, resp.Request.URL.Host, clip(resp.Status), d.remote.Path)}
	default:
		return d.l.refused(resp, "file "+d.remote.Path+" in "+d.t.id.Repo)
	}
	if etag == d.etag {
		return nil
	}
	d.etag = etag
	// Before the content: a partial file must not have the ETag of another answer.
	return d.part.WriteFile(d.remote.etagName(), []byte(etag), 0o644)
}

// elsewhere reports whether an answer is of a store that the hub sent us to: what it
// refuses, an address that has run out above all, the hub may allow again.
func (d *download) elsewhere(resp *http.Response) bool {
	return !strings.EqualFold(resp.Request.URL.Host, d.l.endpoint.Host)
}

// again restarts the file, which must not go on for ever.
func (d *download) again() error {
	if d.restarts++; d.restarts > maxRestarts {
		return fmt.Errorf("%w: %s was restarted %d times: it changes, or cannot be resumed", ErrUnavailable, d.remote.Path, maxRestarts)
	}
	return d.restart()
}

// restartNextTry restarts the file with the next try.
func (d *download) restartNextTry(format string, args ...any) error {
	if err := d.again(); err != nil {
		return err
	}
	return transient{fmt.Errorf("%w: %s", ErrUnavailable, fmt.Sprintf(format, args...))}
}
