package gateway

// SpoolDir is where long bodies are.
func (g *Gateway) SpoolDir() string { return g.opts.SpoolDir }

// Forget has the gateway have no table yet.
func (g *Gateway) Forget() { g.first = newFirstTable(); g.table.Store(&table{}) }
