package signin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/rs/cors"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/usher-authz/usher/policies"
	"github.com/usher-authz/usher/policies/signing"
)

const (
	// Audience is that of every token.
	Audience = "usher"
	// ClientID is the program that signs people in: public, with PKCE, and with any
	// redirect to loopback.
	ClientID = "usher-console"
	// Lifetime is that of a token.
	Lifetime = 12 * time.Hour

	readTimeout = 10 * time.Second
)

// Options say where it listens and whom it offers.
type Options struct {
	Listen   string             // HOST:PORT on loopback
	Key      *signing.Key       // signs the tokens
	Accounts []policies.Account // to choose from
	Clock    func() time.Time
	Logger   *slog.Logger
}

// Server is the provider. Stop may be called once it was started.
type Server struct {
	o      Options
	host   string
	issuer string
	store  *storage
	http   *http.Server
	done   chan struct{}
	err    error // why it ended, once done is closed
}

// Start listens and serves until Stop. A taken port is a *net.OpError.
func Start(ctx context.Context, o Options) (*Server, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.Listen, err)
	}
	host := listener.Addr().String()
	s := &Server{o: o, host: host, issuer: "http://" + host, store: newStorage(o), done: make(chan struct{})}
	handler, err := s.handler()
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	s.http = &http.Server{
		Handler: handler, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.err = err
		}
	}()
	return s, nil
}

// URL is the issuer.
func (s *Server) URL() string { return s.issuer }

// Done is closed when the server has ended.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is why it ended by itself, once it has.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// Stop finishes what is in flight.
func (s *Server) Stop(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

func (s *Server) handler() (http.Handler, error) {
	config := &op.Config{CodeMethodS256: true, SupportedScopes: []string{"openid", "email", "profile"}}
	if _, err := rand.Read(config.CryptoKey[:]); err != nil {
		return nil, fmt.Errorf("make a key for codes: %w", err)
	}
	provider, err := op.NewProvider(config, s.store, op.StaticIssuer(s.issuer), op.WithAllowInsecure(),
		op.WithCORSOptions(&cors.Options{
			AllowOriginFunc: isLoopbackURL, AllowedMethods: []string{http.MethodGet, http.MethodPost},
			AllowedHeaders: []string{"Authorization", "Content-Type"},
		}))
	if err != nil {
		return nil, fmt.Errorf("make the OpenID provider: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", provider)
	mux.HandleFunc("GET /{$}", s.home)
	mux.HandleFunc("GET /login", s.choose)
	mux.HandleFunc("POST /login", s.chosen(op.AuthCallbackURL(provider)))
	mux.HandleFunc("POST /dev/token", s.token)
	return s.own(mux), nil
}

// own lets through what is for this host: a name that was rebound to loopback is not
// ours.
func (s *Server) own(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != s.host {
			http.Error(w, "This is the development sign-in of usher at "+s.issuer+".", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// foreign tells whether a browser sends r from another site's page.
func (s *Server) foreign(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	return origin != "" && origin != s.issuer
}

// isLoopbackURL tells whether text is an http URL of this machine.
func isLoopbackURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.User != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}
