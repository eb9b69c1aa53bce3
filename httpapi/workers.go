package httpapi

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

// eventsPage is how many events of a worker one answer has unless asked.
const eventsPage = 256

// listWorkers lists live and dead workers by port. A port can have several dead
// ones, so the cursor is the port and the id.
func (s *Server) listWorkers(w http.ResponseWriter, r *http.Request) error {
	limit, err := queryLimit(r, 0)
	if err != nil {
		return err
	}
	after, err := parseWorkerCursor(r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	workers := slices.SortedFunc(slices.Values(s.hive.Load().Workers()), compareWorkers)
	workers = slices.DeleteFunc(workers, func(wkr store.Worker) bool { return compareWorkers(wkr, after) <= 0 })
	page := wire.Workers{Workers: []wire.Worker{}}
	if limit > 0 && len(workers) > limit {
		workers = workers[:limit]
		page.Next = workerCursor(workers[limit-1])
	}
	for _, wkr := range workers {
		page.Workers = append(page.Workers, workerShape(wkr))
	}
	return writeJSON(w, http.StatusOK, page)
}

func compareWorkers(a, b store.Worker) int {
	return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.WorkerID, b.WorkerID))
}

func workerCursor(w store.Worker) string { return strconv.Itoa(int(w.Port)) + "/" + w.WorkerID }

func parseWorkerCursor(text string) (store.Worker, error) {
	if text == "" {
		return store.Worker{}, nil
	}
	port, id, found := strings.Cut(text, "/")
	number, err := parsePort("after", port)
	if err != nil || !found {
		return store.Worker{}, badField("after", "the next of the page before is expected")
	}
	return store.Worker{Port: number, WorkerID: id}, nil
}

func (s *Server) getWorker(w http.ResponseWriter, r *http.Request) error {
	wkr, err := s.hive.Load().Worker(pathVar(r, "ref"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, workerShape(wkr))
}

// workerEvents is the story of a worker across its jobs, oldest first.
func (s *Server) workerEvents(w http.ResponseWriter, r *http.Request) error {
	limit, err := queryLimit(r, eventsPage)
	if err != nil {
		return err
	}
	after, err := parseSeq("after", r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	h := s.hive.Load()
	wkr, err := h.Worker(pathVar(r, "ref"))
	if err != nil {
		return err
	}
	events, err := h.WorkerEvents(wkr.WorkerID, after, limit)
	if err != nil {
		return fmt.Errorf("events of %s: %w", wkr.WorkerID, err)
	}
	page := wire.Events{Events: make([]wire.Event, 0, len(events))}
	for _, ev := range events {
		page.Events = append(page.Events, eventShape(ev))
	}
	if len(events) == limit {
		page.Next = strconv.FormatUint(events[limit-1].Seq, 10)
	}
	return writeJSON(w, http.StatusOK, page)
}
