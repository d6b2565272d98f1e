package signin

import (
	"context"
	"crypto/rand"
	_ "embed"
	"html/template"
	"io"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/usher-authz/usher/policies"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Parse(pageText)) //nolint:gochecknoglobals // parsed once

// content is what the page shows: the accounts, each with a button that posts to
// Action.
type content struct {
	Action   string
	Request  string // of a sign-in under way
	Accounts []policies.Account
}

func (s *Server) show(w http.ResponseWriter, c content) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	// After the choice the browser is sent on to the program, which is on loopback.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "+
		"form-action 'self' http://127.0.0.1:* http://localhost:*")
	c.Accounts = s.o.Accounts
	if err := page.Execute(w, c); err != nil {
		s.o.Logger.Warn("a page was not written", "error", err)
	}
}

// home is for whoever comes by hand: it gives tokens.
func (s *Server) home(w http.ResponseWriter, _ *http.Request) {
	s.show(w, content{Action: "/dev/token"})
}

// choose is the page of a sign-in.
func (s *Server) choose(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("request")
	if _, err := s.store.find(id); err != nil {
		http.Error(w, "This sign-in has ended: begin anew.", http.StatusNotFound)
		return
	}
	s.show(w, content{Action: "/login", Request: id})
}

// chosen ends a sign-in with the account that was chosen.
func (s *Server) chosen(callback func(ctx context.Context, id string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, ok := s.who(w, r)
		if !ok {
			return
		}
		id := r.PostFormValue("request")
		if err := s.store.choose(id, who); err != nil {
			http.Error(w, "This sign-in has ended: begin anew.", http.StatusNotFound)
			return
		}
		http.Redirect(w, r, callback(op.ContextWithIssuer(r.Context(), s.issuer), id), http.StatusSeeOther)
	}
}

// token gives a token to a script.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	who, ok := s.who(w, r)
	if !ok {
		return
	}
	made := &login{client: ClientID, who: who, at: s.o.Clock()}
	token, err := op.CreateJWT(op.ContextWithIssuer(r.Context(), s.issuer), s.issuer, made, s.o.Clock().Add(Lifetime), rand.Text(), client{}, s.store)
	if err != nil {
		s.o.Logger.ErrorContext(r.Context(), "a token was not made", "error", err)
		http.Error(w, "The token cannot be made; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, token+"\n")
}

// who reads the form: an account that is offered, or any other by its id, with an
// address and a name if they are given.
func (s *Server) who(w http.ResponseWriter, r *http.Request) (person, bool) {
	if s.foreign(r) {
		http.Error(w, "Forms of other sites are not taken.", http.StatusForbidden)
		return person{}, false
	}
	r.Body = http.MaxBytesReader(w, r.Body, policies.MaxHeaderBytes)
	who := person{Account: policies.Account{ID: policies.AccountID(r.PostFormValue("account"))}, unverified: r.PostFormValue("email_verified") == "false"}
	if who.ID == "" {
		http.Error(w, "Say as whom: account=ID, and email=ADDRESS and name=NAME for one that is not offered.", http.StatusBadRequest)
		return person{}, false
	}
	for _, a := range s.o.Accounts {
		if a.ID == who.ID {
			who.Account = a
		}
	}
	if email := r.PostFormValue("email"); email != "" {
		who.Email = email
	}
	if name := r.PostFormValue("name"); name != "" {
		who.DisplayName = name
	}
	return who, true
}
