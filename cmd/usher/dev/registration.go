package dev

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/usher-authz/usher/policies"
)

// mailFrom is what the mails of a platform on one machine come from.
const mailFrom = "usher <usher@localhost>"

// registration is the platform's hook as a developer needs it: whoever accepts an
// invitation gets an account, whose id follows from the address. It is asked by the
// admin server alone, and remembers nothing.
type registration struct {
	url    string
	server *http.Server
}

func startRegistration(ctx context.Context) (*registration, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for registrations: %w", err)
	}
	r := &registration{
		url:    "http://" + listener.Addr().String() + "/register",
		server: &http.Server{Handler: http.HandlerFunc(register), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second},
	}
	go func() { _ = r.server.Serve(listener) }() // ends with stop
	return r, nil
}

func (r *registration) stop(ctx context.Context) error {
	if err := r.server.Shutdown(ctx); err != nil {
		return errors.Join(err, r.server.Close())
	}
	return nil
}

func register(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Email string `json:"email"`
	}
	err := json.UnmarshalRead(io.LimitReader(r.Body, policies.MaxBodyBytes), &asked)
	if r.Method != http.MethodPost || err != nil || policies.CheckEmail(asked.Email) != "" {
		http.Error(w, "POST {email, display_name}", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, "{\"id\": %q}\n", accountID(asked.Email))
}

// accountID is the id of the account with an address: what a person can read of it,
// and enough of a hash that two addresses do not meet.
func accountID(email string) policies.AccountID {
	key := policies.EmailKey(email)
	local, _, _ := strings.Cut(key, "@")
	name := strings.TrimLeft(strings.Map(func(c rune) rune {
		if c < 0x80 && policies.ValidID("a"+string(c)) && c != '@' && c != ':' {
			return c
		}
		return -1
	}, local), "._-")
	if name == "" {
		name = "account"
	}
	sum := sha256.Sum256([]byte(key))
	return policies.AccountID(name + "-" + hex.EncodeToString(sum[:])[:12])
}
