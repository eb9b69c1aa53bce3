package fields

func newThing() *thing { return &thing{} }
