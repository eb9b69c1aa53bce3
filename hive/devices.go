package hive

import (
	"context"
	"os"

	"rbeehive/hive/hardware"
	"rbeehive/hive/proc"
)

func (h *Hive) newInventory() *hardware.Inventory {
	return hardware.New(hardware.Options{
		Run: func(ctx context.Context, argv []string) ([]byte, error) {
			return proc.Ask(ctx, argv, proc.Environ(os.Environ(), []string{"LC_ALL=C"}))
		},
		LookPath: func(name string) (string, error) { return proc.LookPath(name, "") },
		Go:       h.spawnGoroutine, Log: h.cfg.Log,
	})
}

// Devices returns what this machine has to run models on: GPUs, then the CPU. The
// first call waits for a look at them, a few seconds at most; later ones answer with
// what is known. Errors: ctx's, and ErrClosed.
func (h *Hive) Devices(ctx context.Context) ([]hardware.Device, error) {
	devices, err := h.devices.Devices(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, ErrClosed
	}
	return devices, err
}
