package journal

// EventPage is how many events a reader gets in one transaction.
const EventPage = eventPage

// Topics is how many jobs somebody waits for, or everything.
func (j *Journal) Topics() int {
	j.feed.mu.Lock()
	defer j.feed.mu.Unlock()
	return len(j.feed.topics)
}
