package config

import (
	"fmt"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/setting"
)

// Config is the whole configuration of the daemon, checked. The tags are those of package
// setting; what has none is made of other keys, or is no setting.
type Config struct {
	hive.Config            // what of it the file says
	File         string    // the file that was read; empty: there is none
	Empty        bool      // File says nothing: it has nothing but comments
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
	Gate         string          `key:"gate" default:"auto" oneof:"auto process"`      // what holds a program until it is recorded
	LogLevel     string          `key:"log_level" oneof:"error warn info debug trace"` // empty: not set
	LogFormat    string          `key:"log_format" default:"text" oneof:"text json"`
	Workers      []catalog.Entry // of the file, then those of types.d
	Warnings     []*Error        // what is hardly meant, and is no mistake
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
	Mistakes
	opts   Options
	v      *viper.Viper
	file   string
	root   *yaml.Node // of the file; nil: it is empty
	unread string     // see Config.Unread
}

// Load reads, merges and checks the configuration. It reads files and the
// environment and does not block otherwise. What is wrong with it comes as Mistakes.
func Load(opts Options) (*Config, error) {
	if opts.EtcDir == "" {
		opts.EtcDir = "/etc/hive"
	}
	l := &loader{opts: opts, v: viper.NewWithOptions(viper.KeyDelimiter("::"))}
	l.checkEnviron(opts.Environ)
	if err := l.bind(); err != nil {
		return nil, err
	}
	takeOver, err := opts.Flags.GetBool("take-over")
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	if !l.readFile() {
		return nil, l.err()
	}
	s := newSettings()
	s.File, s.Empty, s.Unread, s.TakeOver = l.file, l.file != "" && l.root == nil, l.unread, takeOver
	l.decode(s)
	l.check(s)
	if err := l.err(); err != nil {
		return nil, err
	}
	return s.Config, nil
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
