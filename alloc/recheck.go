package alloc

import (
	"context"
	"fmt"

	"rbeehive/alloc/sockets"
)

// Recheck checks whether ports that are leased here can be bound at host, the address of
// their holder, which has ended and is to be restarted on them. Who has them on other
// addresses does not matter, as it did not before. It blocks as Acquire does. Errors:
// *UnavailableError, with Draining where only the kernel still has one of them; else as
// Acquire.
func (a *Allocator) Recheck(ctx context.Context, ports []uint16, host string) error {
	a.mu.Lock()
	err := a.ready()
	a.mu.Unlock()
	if err != nil {
		return err
	}
	for _, port := range ports {
		s := &search{a: a, req: Request{Port: port, Host: host}, n: 1, host: hostAddr(host), hostOnly: true}
		f, err := s.inspect(ctx, port)
		if err != nil {
			return fmt.Errorf("check port %d: %w", port, err)
		}
		switch f.verdict {
		case verdictDraining:
			return drainingError(port)
		case verdictForeign:
			e := &UnavailableError{Port: port, Reason: "it is held by another program"}
			if holders, err := sockets.Holders(ctx, f.sockets); err == nil && len(holders) > 0 {
				e.Holder, e.Reason = &holders[0], "it is held by "+holders[0].String()
			}
			return e
		}
	}
	return nil
}
