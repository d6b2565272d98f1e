package dev

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/usher-authz/usher/authz/ondemand"
)

// state is what one run leaves for the next, in DIR/state.json (mode 0600: it has
// passwords).
type state struct {
	path string

	// Ports of the parts whose ports no option sets; 0 until first chosen.
	PostgresPort int `json:"postgres_port"`
	RedisPort    int `json:"redis_port"`
	OnDemandPort int `json:"on_demand_port"`
	SignInPort   int `json:"sign_in_port"`
	// Passwords of the database's roles and of Redis.
	OwnerPassword string `json:"owner_password"`
	AppPassword   string `json:"app_password"`
	RedisPassword string `json:"redis_password"`
	// TokenID and Token are the service token with every scope, and its secret.
	TokenID string `json:"token_id"`
	Token   string `json:"token"`
	// DemoImported says that the demo company was imported once; an import
	// replaces, so doing it again would undo the user's work.
	DemoImported bool `json:"demo_imported"`
}

const passwordBytes = 24

// loadState reads DIR/state.json, or begins a new one.
func loadState(dir string) (*state, error) {
	s := &state{path: filepath.Join(dir, "state.json")}
	data, err := os.ReadFile(s.path)
	if err == nil {
		if err := json.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("%s cannot be read (%w): remove %s to start anew", s.path, err, dir)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	for _, password := range []*string{&s.OwnerPassword, &s.AppPassword, &s.RedisPassword} {
		if *password == "" {
			*password = randomHex(passwordBytes)
		}
	}
	return s, s.save()
}

// save writes the state by rename.
func (s *state) save() error {
	data, err := json.Marshal(s, jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encode the state: %w", err)
	}
	return writeFile(s.path, append(data, '\n'))
}

// writeFile replaces path by rename, with mode 0600.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// keyFile is DIR/redis.key, made once, with the keys in it: they authenticate what
// sidecars keep in Redis.
func keyFile(dir string) (path string, keys [][]byte, err error) {
	path = filepath.Join(dir, "redis.key")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(ondemand.NewRedisKey() + "\n")
		err = writeFile(path, data)
	}
	if err != nil {
		return "", nil, fmt.Errorf("the key file for Redis: %w", err)
	}
	if keys, err = ondemand.ParseRedisKeys(data); err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return path, keys, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}
