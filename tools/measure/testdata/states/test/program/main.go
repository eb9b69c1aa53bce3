package main

import "example/store"

func main() {
	w := store.New()
	w.State = "of a test program"
}
