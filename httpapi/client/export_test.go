package client

// SetMaxBody lowers the limit of one JSON answer.
func (c *Client) SetMaxBody(n int64) { c.maxBody = n }
