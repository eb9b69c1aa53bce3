package promoted

func size() int { return newOuter().size }
