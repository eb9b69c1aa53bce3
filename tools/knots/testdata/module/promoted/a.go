package promoted

type outer struct{ *middle }

func newOuter() outer { return outer{} }
