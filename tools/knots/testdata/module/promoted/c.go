package promoted

type inner struct{ size int }
