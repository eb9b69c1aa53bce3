package wire

// TypeSummary is a worker type in a list.
type TypeSummary struct {
	Name        string  `json:"name"`
	Source      string  `json:"source"`
	Preset      *string `json:"preset"`
	Description string  `json:"description"`
	Autostart   bool    `json:"autostart"`
	Installed   bool    `json:"installed"`
	Program     *string `json:"program"`
	Version     *string `json:"version"`
	Reason      *string `json:"reason"` // why it is not installed
}

// Types is all worker types, by name.
type Types struct {
	Types []TypeSummary `json:"types"`
	Next  string        `json:"next"`
}

// TypeDetail is a worker type and what a spawn of it would do. What the spawn
// decides is null together with Command; NoCommand says why.
type TypeDetail struct {
	TypeSummary

	Model      *string           `json:"model"`  // of the entry
	Device     *string           `json:"device"` // of the entry
	Params     map[string]string `json:"params"` // defaults
	NeedsModel bool              `json:"needs_model"`
	Template   []string          `json:"template"` // the command as configured

	Command   []string   `json:"command"`
	NoCommand *string    `json:"no_command"`
	WorkerID  *string    `json:"worker_id"` // an example
	Host      *string    `json:"host"`
	Port      *uint16    `json:"port"` // an example, unless it was asked for
	Env       []Variable `json:"env"`
	Removed   []string   `json:"removed"`
	Ready     *TypeReady `json:"ready"`
	Stop      *TypeStop  `json:"stop"`

	Dir         *string      `json:"dir"`      // working directory; null: hive's own
	User        *string      `json:"user"`     // whom it runs as; null: as hive does
	EnvFile     *string      `json:"env_file"` // read at each start
	BeforeStart []string     `json:"before_start"`
	Live        *TypeLive    `json:"live"` // null: watched by its exit only
	Restart     *TypeRestart `json:"restart"`
}

// TypeLive is how a worker that is ready is watched. Without a URL listening is enough.
type TypeLive struct {
	URL        *string `json:"url"`
	IntervalMS int64   `json:"interval_ms"`
	Failures   int     `json:"failures"`
	Action     string  `json:"action"` // restart or report
}

// TypeRestart is what is done when a worker ends by itself.
type TypeRestart struct {
	Policy       string `json:"policy"`
	Max          int    `json:"max"`
	WindowMS     int64  `json:"window_ms"`
	BackoffMS    int64  `json:"backoff_ms"`
	MaxBackoffMS int64  `json:"max_backoff_ms"`
}

// Variable is one variable that hive adds to a worker's environment. Value is
// null where it may be secret, or is made at the spawn; From says which.
type Variable struct {
	Name  string  `json:"name"`
	Value *string `json:"value"`
	From  string  `json:"from"`
}

// TypeReady is when a worker counts as ready. Without a URL listening is enough.
type TypeReady struct {
	URL       *string `json:"url"`
	Status    int     `json:"status"`
	StallMS   int64   `json:"stall_ms"`   // 0: no limit
	TimeoutMS int64   `json:"timeout_ms"` // 0: no limit
}

// TypeStop is how a worker is stopped: the signals in turn, then SIGKILL.
type TypeStop struct {
	Command []string `json:"command"` // run instead of the signals
	Signals []string `json:"signals"`
	GraceMS int64    `json:"grace_ms"` // after each
	Scope   string   `json:"scope"`    // main or tree
}
