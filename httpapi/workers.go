package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// eventsPage is how many events of a worker one answer has unless asked.
const eventsPage = 256

// listWorkers lists live and dead workers by port. A port can have several dead
// ones, so the cursor is all that they are ordered by: it stays good when the
// worker it names is pruned.
func (s *Server) listWorkers(w http.ResponseWriter, p wire.ListWorkersParams) error {
	limit := int(orZero(p.Limit))
	after, err := parseWorkerCursor(orZero(p.After))
	if err != nil {
		return err
	}
	h := s.hive.Load()
	workers := h.Workers()
	page := wire.Workers{Workers: []wire.Worker{}, Wanted: []wire.Wanted{}}
	for _, v := range h.Wanted() {
		page.Wanted = append(page.Wanted, wantedShape(v))
	}
	if limit == 0 && p.After == nil {
		text, err := s.workersText.page(workers, page)
		if err != nil {
			return err
		}
		writeJSONText(w, http.StatusOK, text)
		return nil
	}
	first, met := slices.BinarySearchFunc(workers, after, compareWorkers)
	if met {
		first++
	}
	workers = workers[first:]
	if limit > 0 && len(workers) > limit {
		workers = workers[:limit]
		page.Next = workerCursor(workers[limit-1])
	}
	page.Workers = workerShapes(workers)
	return writeJSON(w, http.StatusOK, page)
}

// compareWorkers is the order of hive.Hive.Workers.
func compareWorkers(a, b store.Worker) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.WorkerID, b.WorkerID))
}

func workerCursor(w store.Worker) string {
	return fmt.Sprintf("%d/%d/%s", w.Port, w.StartedAt.UnixNano(), w.WorkerID)
}

func parseWorkerCursor(text string) (store.Worker, error) {
	if text == "" {
		return store.Worker{}, nil
	}
	bad := badField("after", "the next of the page before is expected")
	parts := strings.SplitN(text, "/", 3)
	if len(parts) != 3 {
		return store.Worker{}, bad
	}
	port, portErr := strconv.ParseUint(parts[0], 10, 16)
	started, startedErr := strconv.ParseInt(parts[1], 10, 64)
	if portErr != nil || startedErr != nil {
		return store.Worker{}, bad
	}
	return store.Worker{Port: uint16(port), StartedAt: time.Unix(0, started), WorkerID: parts[2]}, nil
}

func (s *Server) getWorker(w http.ResponseWriter, ref string) error {
	wkr, err := s.hive.Load().Worker(ref)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, workerShape(wkr))
}

func (s *Server) removeWorker(w http.ResponseWriter, r *http.Request, ref string) error {
	rec, err := s.hive.Load().RemoveWorker(r.Context(), callerOf(r), ref)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, wire.RemovedWorker{WorkerID: rec.WorkerID, Status: "removed"})
}

// workerEvents is the story of a worker across its jobs, oldest first.
func (s *Server) workerEvents(w http.ResponseWriter, ref string, p wire.ListWorkerEventsParams) error {
	limit := cmp.Or(int(orZero(p.Limit)), eventsPage)
	h := s.hive.Load()
	wkr, err := h.Worker(ref)
	if err != nil {
		return err
	}
	events, err := h.WorkerEvents(wkr.WorkerID, uint64(orZero(p.After)), limit)
	if err != nil {
		return fmt.Errorf("events of %s: %w", wkr.WorkerID, err)
	}
	page := wire.Events{Events: make([]wire.Event, 0, len(events))}
	for _, ev := range events {
		page.Events = append(page.Events, eventShape(ev))
	}
	// A full page may be the last one: the next is empty then.
	if len(events) == limit {
		page.Next = strconv.FormatUint(events[limit-1].Seq, 10)
	}
	return writeJSON(w, http.StatusOK, page)
}
