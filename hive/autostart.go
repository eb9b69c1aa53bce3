package hive

import (
	"context"
	"encoding/json"

	"golang.org/x/sync/errgroup"

	"rbeehive/hive/catalog"
	"rbeehive/store"
)

// autostart starts a worker of each type that asks for it and has none, at most
// StartParallel at once: each until it is ready or has failed. It returns when all
// have been tried or the hive closes.
func (h *Hive) autostart() {
	var g errgroup.Group
	g.SetLimit(h.settings().StartParallel)
	for _, typ := range h.types().Types() {
		if !typ.Autostart || !h.missing(typ.Name) || !h.beginAutostart(typ.Name) {
			continue
		}
		g.Go(func() error {
			defer h.endAutostart(typ.Name)
			if h.spawnable() {
				h.autostartOne(typ)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return no errors: each job says what became of it
}

// beginAutostart notes that a type is being started, and reports whether it was
// not already: a reload may come while the start of hive still has it in hand.
func (h *Hive) beginAutostart(typ string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.begun[typ] {
		return false
	}
	h.begun[typ] = true
	return true
}

func (h *Hive) endAutostart(typ string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.begun, typ)
}

// missing reports whether no worker of a type lives, and the last one was not
// stopped on request: such a one stays stopped until somebody starts it.
func (h *Hive) missing(typ string) bool {
	for _, rec := range h.live() {
		if rec.Type == typ {
			return false
		}
	}
	last, ok := h.lastOf(typ)
	return !ok || last.Desired != store.DesiredStopped
}

// lastOf returns the worker of a type that ended last, if there is one.
func (h *Hive) lastOf(typ string) (store.Worker, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := len(h.dead) - 1; i >= 0; i-- {
		if h.dead[i].Type == typ {
			return h.dead[i], true
		}
	}
	return store.Worker{}, false
}

// autostartOne submits the spawn of a type's worker and waits for its job. The
// worker has the type's name if that is a name for workers, and with it a port
// that stays the same.
func (h *Hive) autostartOne(typ *catalog.Type) {
	op := Spawn{Worker: typ.Name, Wait: WaitReady}
	request := map[string]string{"operation": op.Tag(), "worker": typ.Name}
	if workerName(typ.Name) == nil {
		op.Name, request["name"] = typ.Name, typ.Name
	}
	log := h.cfg.Log.WithField("type", typ.Name)
	if err := h.checkSpawn(op); err != nil {
		log.WithError(err).Error("autostart: the entry cannot be started as it is")
		return
	}
	raw, err := json.Marshal(request)
	if err != nil { // a map of strings always encodes
		return
	}
	job, err := h.Submit(h.ctx, op, raw)
	if err == nil {
		job, err = h.WaitJob(h.ctx, job.JobID)
	}
	switch {
	case h.ctx.Err() != nil || context.Cause(h.ctx) != nil:
	case err != nil:
		log.WithError(err).Error("autostart: the spawn was not taken")
	case job.Error != nil:
		log.WithField("job", job.JobID).WithField("code", job.Error.Code).Error("autostart: " + job.Error.Message)
	}
}
