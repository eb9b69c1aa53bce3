package methods

var all []thing

func (thing) third() int { return 3 }
