package gateway

import (
	"cmp"
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"rbeehive/alloc/sockets"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/wire"
)

// What is taken unless it is said otherwise, in bytes.
const (
	DefaultMaxBody  = 512 << 20 // the longest body
	DefaultMaxSpool = 4 << 30   // all that are too long for memory
)

// Hive is what a gateway asks of hive: *client.Client.
type Hive interface {
	Routes(ctx context.Context) (client.Reply[wire.Routes], error)
	ProveReplica(ctx context.Context, workerID string) (client.Reply[wire.Replica], error)
}

// Options are how a gateway works.
type Options struct {
	Hive     Hive
	Sockets  *sockets.Table
	MaxBody  int64  // bytes; 0: DefaultMaxBody
	MaxSpool int64  // bytes of all bodies in SpoolDir together; 0: DefaultMaxSpool
	SpoolDir string // for bodies that are too long for memory; a file system that is no memory either
	Log      *logrus.Logger
}

// Gateway passes requests to workers. Its methods are safe for concurrent use.
type Gateway struct {
	opts    Options
	hive    Hive
	sockets *sockets.Table
	log     *logrus.Logger
	metrics *metrics
	table   atomic.Pointer[table]
	first   *firstTable
	spooled atomic.Int64 // bytes of all bodies in files
	origin  *http.CrossOriginProtection
}

// New returns a gateway without any route.
func New(o Options) *Gateway {
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.MaxSpool = cmp.Or(o.MaxSpool, DefaultMaxSpool)
	g := &Gateway{opts: o, hive: o.Hive, sockets: o.Sockets, log: o.Log, metrics: newMetrics(), first: newFirstTable(), origin: http.NewCrossOriginProtection()}
	g.table.Store(&table{})
	return g
}

// firstTable says when the first table was taken from hive.
type firstTable struct {
	take func()
	done chan struct{} // closed then
}

func newFirstTable() *firstTable {
	done := make(chan struct{})
	return &firstTable{sync.OnceFunc(func() { close(done) }), done}
}

func (f *firstTable) taken() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// Ready is closed when the gateway has its first table.
func (g *Gateway) Ready() <-chan struct{} { return g.first.done }

// refreshPause is the least time between two tables: a burst of events is one change.
const refreshPause = 50 * time.Millisecond

// Refresh takes the table of routes from hive. After an error the last one goes on.
func (g *Gateway) Refresh(ctx context.Context) error {
	reply, err := g.hive.Routes(ctx)
	if err != nil {
		return err
	}
	next, gone := g.newTable(reply.Value.Routes, g.table.Load())
	g.table.Store(next)
	g.first.take()
	g.metrics.tables.Inc()
	for _, r := range gone {
		r.transport.CloseIdleConnections() // what is in flight ends as it does
	}
	return nil
}

// Follow keeps the table as hive's until ctx ends. changed has a value after each event of hive's that may
// change it, and after each connection to hive: what happened before that is in no event.
func (g *Gateway) Follow(ctx context.Context, changed <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		for ctx.Err() == nil {
			err := g.Refresh(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			g.log.WithError(err).Warn("no routes from hive; those that are known stay")
			if !pause(ctx, time.Second) {
				return
			}
		}
		if !pause(ctx, refreshPause) {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
