package hive

import "example/store"

type (
	entry   struct{ store.Worker }
	derived store.Worker
	Hive    struct{ workers []*store.Worker }
)

var first = store.Worker{State: "new"} // written

func transition(w *store.Worker, to store.State) { w.State = to } // by the function

func (h *Hive) transition(w *store.Worker, to store.State) {
	set := func() { w.State = to } // by the method
	set()
}

func (h *Hive) writes(states []store.State, e entry) {
	h.workers[0].State = "a"                   // written
	e.State, e.ID = "b", "id"                  // written
	e.Worker.State = "c"                       // written
	p := &e.State                              // written
	for _, h.workers[0].State = range states { // written
	}
	h.workers = []*store.Worker{{ID: "x"}, {State: *p}} // written
	d := derived{State: "d"}                            // written
	func() {
		d.State = "e" // written
	}()
}

func (h *Hive) doesNotWrite(w store.Worker, j store.Job) {
	other := w
	other.ID = string(w.State)
	j.State = w.State
	h.workers = append(h.workers, &other, &store.Worker{ID: "y"}, &store.Worker{})
	if w.State == "a" {
		transition(&w, "b")
	}
	_ = store.Job{State: w.State}
}
