package methods

type thing struct{}

func (thing) first() int { return second() }
