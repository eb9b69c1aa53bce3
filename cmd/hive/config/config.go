package config

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/setting"
	"rbeehive/store/plain"
)

// ErrConfig is what every *Error unwraps to.
var ErrConfig = errors.New("configuration")

// Error is one error in the configuration.
type Error struct {
	Source string // where it is: "hive.yaml:3: ports", "HIVE_PORT" or "--port"
	Reason string // what it is and what was expected
}

// Error is one line, whatever the file holds: a key or a name in it may have
// line ends of its own.
func (e *Error) Error() string {
	return plain.Text(e.Source + ": " + e.Reason)
}

// Unwrap returns ErrConfig.
func (e *Error) Unwrap() error { return ErrConfig }

// Config is the whole configuration of the daemon, checked. The tags are those of package
// setting; what has none is made of other keys, or is no setting.
type Config struct {
	hive.Config            // what of it the file says
	File         string    // the file that was read; empty: there is none
	Unread       string    // a file of the working directory that root's hive ignored; empty: there is none
	Listen       []Address // none: there are the control socket and Passed
	Passed       []Address // what the service manager listens on; it replaces the same address in Listen
	Socket       Socket
	Auth         access.Mode     `key:"auth" default:"users" oneof:"users token none"`
	Access       *access.Policy  // what auth, access and the entries' allow say together
	TLS          *TLS            // nil: none
	Advertise    string          `key:"advertise"` // URL without a path; empty: the listen address
	AllowedHosts []string        `key:"allowed_hosts"`
	WorkerUser   string          `key:"worker_user"`                                   // user of workers whose entry names none; empty: hive's
	LogLevel     string          `key:"log_level" oneof:"error warn info debug trace"` // empty: not set
	LogFormat    string          `key:"log_format" default:"text" oneof:"text json"`
	Workers      []catalog.Entry // of the file, then those of types.d
	Shadowed     []string        // files of types.d that are ignored: hive.yaml has an entry of that name
}

// Options are the sources of Load.
type Options struct {
	Flags   *pflag.FlagSet // made by Flags, parsed
	Environ []string       // os.Environ(); searched for unknown HIVE_* variables
	UID     int            // effective user id: root's default data directory is another, and so are the places of the file
	EtcDir  string         // where the system's file is; empty: /etc/hive
	// Previous is what Load returned at the start: a reload reads the same file. Nil: the
	// file is searched for.
	Previous *Config
	Passed   []Address // sockets that the service manager has opened; TCP replaces the default of listen
	// DefaultWorkerUser is the user of workers of a root hive, by default, if it exists;
	// empty: hive-worker.
	DefaultWorkerUser string
}

// Flags adds the daemon's flags to fs.
func Flags(fs *pflag.FlagSet) {
	fs.String("config", "", "configuration file (default the first that exists of ./hive.yaml, but not for root, $XDG_CONFIG_HOME/hive/hive.yaml, /etc/hive/hive.yaml)")
	fs.String("data-dir", "", "state directory (default /var/lib/hive for root, else $XDG_STATE_HOME/hive)")
	fs.String("listen", "", "addresses of the API, host:port or unix:/path, with commas between them, or none (default "+defaultOf("listen")+")")
	fs.String("port", "", "port of the API (default: that of --listen)")
	fs.String("hive-id", "", "name of this hive (default "+defaultOf("hive_id")+")")
	fs.String("queen-url", "", "URL of the queen that hive announces itself to; workers get it as {{.QueenURL}}")
	fs.String("log-level", "", "error, warn, info, debug or trace (default info; warn on a terminal)")
	fs.String("log-format", "", "text or json (default "+defaultOf("log_format")+")")
	fs.Bool("take-over", false, "accept a state file that another machine wrote")
}

// loader is one run of Load.
type loader struct {
	opts   Options
	v      *viper.Viper
	file   string
	root   *yaml.Node // of the file; nil: it is empty
	unread string     // see Config.Unread
}

// Load reads, merges and checks the configuration. It reads files and the
// environment and does not block otherwise. Errors are *Error, one line each.
func Load(opts Options) (*Config, error) {
	if opts.EtcDir == "" {
		opts.EtcDir = "/etc/hive"
	}
	// "::" instead of ".", which may stand in a key of params.
	l := &loader{opts: opts, v: viper.NewWithOptions(viper.KeyDelimiter("::"))}
	if err := checkEnviron(opts.Environ); err != nil {
		return nil, err
	}
	if err := l.bind(); err != nil {
		return nil, err
	}
	if err := l.readFile(); err != nil {
		return nil, err
	}
	s := newSettings()
	s.File, s.Unread = l.file, l.unread
	if err := l.decode(s); err != nil {
		return nil, err
	}
	return l.check(s)
}

// bind tells viper the layers besides the file.
func (l *loader) bind() error {
	for _, f := range setting.Fields(newSettings()) {
		if text := f.Tag.Get("default"); text != "" && f.Key != "" {
			l.v.SetDefault(layered(f.Key), text)
		}
	}
	for _, key := range envKeys() {
		if err := l.v.BindEnv(append([]string{key}, envNames(key)...)...); err != nil {
			return fmt.Errorf("bind %s: %w", key, err)
		}
	}
	for key, name := range flagKeys() {
		flag := l.opts.Flags.Lookup(name)
		if flag == nil {
			return fmt.Errorf("bind %s: there is no flag --%s", key, name)
		}
		if err := l.v.BindPFlag(key, flag); err != nil {
			return fmt.Errorf("bind %s: %w", key, err)
		}
	}
	return nil
}
