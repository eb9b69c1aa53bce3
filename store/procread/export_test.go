package procread

// Hold makes n processes from first count as held.
func Hold(first, n int) {
	for pid := first; pid < first+n; pid++ {
		hold(pid)
	}
}

// Release lets them go.
func Release(first, n int) {
	for pid := first; pid < first+n; pid++ {
		release(pid)
	}
}

// Held is how many there are.
func Held() int {
	held.Lock()
	defer held.Unlock()
	return len(held.pids)
}
