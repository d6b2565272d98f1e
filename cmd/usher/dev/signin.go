package dev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/cmd/usher/dev/signin"
	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

// startSignIn starts the OpenID provider on the port of earlier runs, so that the
// issuer, and with it tokens, stay good, or on another one if somebody else has that.
func (d *platform) startSignIn(ctx context.Context) error {
	key, err := signInKey(d.o.Dir)
	if err != nil {
		return err
	}
	accounts, err := d.demoAccounts()
	if err != nil {
		return err
	}
	if d.state.SignInPort == 0 || portTaken(ctx, d.state.SignInPort) {
		if err := choosePort(ctx, &d.state.SignInPort, d.state); err != nil {
			return err
		}
	}
	s, err := signin.Start(ctx, signin.Options{
		Listen: net.JoinHostPort("127.0.0.1", strconv.Itoa(d.state.SignInPort)), Key: key, Accounts: accounts, Clock: d.o.Clock, Logger: d.log,
	})
	if err != nil {
		return fmt.Errorf("start the sign-in: %w", err)
	}
	d.signIn = s
	d.started.push("the sign-in", s.Stop)
	d.tell("sign-in on " + s.URL())
	return nil
}

// signInKey is DIR/sign-in.key, made once.
func signInKey(dir string) (*signing.Key, error) {
	path := filepath.Join(dir, "sign-in.key")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := signing.Generate()
		if err != nil {
			return nil, fmt.Errorf("make the key of the sign-in: %w", err)
		}
		if data, err = key.PEM(); err != nil {
			return nil, fmt.Errorf("make the key of the sign-in: %w", err)
		}
		return key, writeFile(path, data)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of the sign-in: %w", err)
	}
	key, err := signing.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// demoAccounts are those of the demo company: itself and its members.
func (d *platform) demoAccounts() ([]policies.Account, error) {
	if !d.o.Demo && !d.state.DemoImported {
		return nil, nil
	}
	var document struct {
		Account policies.Account `json:"account"`
		Members []struct {
			Account policies.Account `json:"account"`
		} `json:"members"`
	}
	if err := json.Unmarshal([]byte(demoDocument(d.o.Clock())), &document); err != nil {
		return nil, fmt.Errorf("read the demo company: %w", err)
	}
	accounts := []policies.Account{document.Account}
	for _, m := range document.Members {
		if m.Account.ID != "" {
			accounts = append(accounts, m.Account)
		}
	}
	return accounts, nil
}
