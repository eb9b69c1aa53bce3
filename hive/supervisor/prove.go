package supervisor

import (
	"context"
	"fmt"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lifecycle"
	"rbeehive/hive/probe"
	"rbeehive/store"
)

// Proof is which sockets take the connections to a worker that is ready, proven to be its own. It
// holds for as long as these very sockets do, which their cookies tell: whoever connects compares
// them.
type Proof struct {
	Worker    store.Worker // as it was then
	Listeners []sockets.Socket
	// Weak says that it is likely only: another user's descriptors could not be read, or the worker's
	// type takes any listener.
	Weak bool
}

// Prove proves whose the sockets are that listen for a worker. It costs reads of /proc, and blocks
// for them. The error wraps errdefs.ErrNotFound if there is no such worker, errdefs.ErrConflict if
// it is not ready or its listeners are not its own.
func (s *Supervisor) Prove(ctx context.Context, ref string) (Proof, error) {
	rec, err := s.Worker(ref)
	if err != nil {
		return Proof{}, err
	}
	w := s.registry.find(rec.WorkerID)
	if w == nil || rec.State != store.WorkerReady {
		return Proof{}, fmt.Errorf("%w: worker %s is %s; requests go to a ready one", errdefs.ErrConflict, rec.WorkerID, lifecycle.PublicState(rec.State))
	}
	socks, who, err := s.prober.Prove(ctx, probe.Target{Worker: rec, Main: w.process(), Tree: w.tree()})
	switch {
	case err != nil:
		return Proof{}, err
	case who != probe.Ours && who != probe.WeaklyOurs:
		return Proof{}, fmt.Errorf("%w: who listens on port %d is not proven to be worker %s", errdefs.ErrConflict, rec.Port, rec.WorkerID)
	// What was looked at may have been the next start's, or the last one's.
	case w.record().LeaseID != rec.LeaseID || w.record().State != store.WorkerReady:
		return Proof{}, fmt.Errorf("%w: worker %s was stopped or started again meanwhile", errdefs.ErrConflict, rec.WorkerID)
	}
	return Proof{Worker: rec, Listeners: socks, Weak: who == probe.WeaklyOurs || rec.Spec.Ready.AnyListener}, nil
}
