package rest

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"mime"
	"net/http"
	"time"

	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/authz/problem"
	"github.com/usher-authz/usher/policies"
)

var (
	//go:embed invitation.html
	invitationHTML string
	//go:embed invitation.css
	invitationCSS string
)

const (
	pagePattern = "/invitations/{token}"
	// maxForm is the most that the page's form may send.
	maxForm = 4 << 10

	formAnswer   = "answer"
	answerAccept = "accept"
	answerReject = "reject"
)

// invitationPage is what the link in a mail opens in a browser: the invitation, and a
// form to answer it. It does what the operations by the link do, for whoever has no
// other client; it runs no script, loads nothing, and tells no other site of the link.
type invitationPage struct {
	api      *API
	template *template.Template
	policy   string
}

// pageData is what the template shows.
type pageData struct {
	Title, Text string
	Style       template.CSS
	Invitation  *invitationView // nil: there is nothing to answer
	Ends        string
	// Accept says that the holder of the link may accept, without signing in.
	Accept bool
}

func newInvitationPage(a *API) (*invitationPage, error) {
	t, err := template.New("invitation").Funcs(template.FuncMap{"thing": thingName, "time": pageTime}).Parse(invitationHTML)
	if err != nil {
		return nil, fmt.Errorf("parse the page of invitations: %w", err)
	}
	style := sha256.Sum256([]byte(invitationCSS))
	return &invitationPage{api: a, template: t, policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(style[:]) +
		"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"}, nil
}

func (p *invitationPage) mount(mux *http.ServeMux) {
	mux.HandleFunc("GET "+pagePattern, p.show)
	mux.HandleFunc("POST "+pagePattern, p.answer)
}

// show changes nothing: scanners of mail follow links.
func (p *invitationPage) show(w http.ResponseWriter, r *http.Request) {
	found, err := p.api.store.Invitation(r.Context(), r.PathValue("token"))
	if err != nil {
		p.fail(w, r, err)
		return
	}
	view, err := p.api.viewInvitation(r.Context(), found)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	p.write(w, http.StatusOK, pageData{
		Title: ownerName(view.Owner) + " invites you to collaborate", Invitation: &view, Ends: pageTime(view.ExpiresAt),
		Accept: !view.SignIn && p.api.registrar != nil,
	})
}

func (p *invitationPage) answer(w http.ResponseWriter, r *http.Request) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err != nil || media != "application/x-www-form-urlencoded" || r.ParseForm() != nil {
		p.fail(w, r, NewProblem(problem.Malformed, "This is not what the form of this page sends."))
		return
	}
	secret := r.PathValue("token")
	by := &request{Request: r, w: w, caller: caller{actor: store.Actor{Address: remoteAddress(r), RequestID: uniqueRequestID(r.Context())}}}
	found, err := p.api.store.Invitation(r.Context(), secret)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	owner := found.Collaboration.Owner
	name := ownerName(ownerView{ID: owner.ID, Email: owner.Email, DisplayName: owner.DisplayName})
	switch r.PostForm.Get(formAnswer) {
	case answerAccept:
		if err := p.accept(by, found, secret); err != nil {
			p.fail(w, r, err)
			return
		}
		p.write(w, http.StatusOK, pageData{Title: "You are a member now", Text: "You accepted the invitation of " + name +
			". Sign in to the platform with " + found.Email + " to see what is shared with you."})
	case answerReject:
		result, err := p.api.store.RejectLink(r.Context(), linkCall(by, secret), secret)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		p.api.acknowledge(result.Revision)
		p.write(w, http.StatusOK, pageData{Title: "You declined", Text: "You declined the invitation of " + name + ". Nothing is shared with you."})
	default:
		p.fail(w, r, NewProblem(problem.Malformed, "This is not what the form of this page sends."))
	}
}

func (p *invitationPage) accept(r *request, found store.LinkedInvitation, secret string) error {
	by, err := p.api.acceptor(r.Context(), r, found, &acceptInput{})
	if err != nil {
		return err
	}
	call := linkCall(r, secret)
	call.Account = by.ID
	result, err := p.api.store.AcceptLink(r.Context(), call, secret, by)
	if err == nil {
		p.api.acknowledge(result.Revision)
	}
	return err
}

// fail shows an error as the operations would tell it.
func (p *invitationPage) fail(w http.ResponseWriter, r *http.Request, err error) {
	shown := p.api.problem(r.Context(), nil, linkError(err))
	maps.Copy(w.Header(), shown.header)
	p.write(w, shown.Status, pageData{Title: "This invitation cannot be answered", Text: shown.Detail})
}

func (p *invitationPage) write(w http.ResponseWriter, status int, data pageData) {
	data.Style = template.CSS(invitationCSS) //nolint:gosec // the embedded style sheet
	var out bytes.Buffer
	if err := p.template.Execute(&out, data); err != nil {
		WriteProblem(w, NewProblem(problem.Internal, "The page cannot be shown."))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Cache-Control", noStore)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the link is a secret
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func ownerName(o ownerView) string {
	if o.DisplayName != "" {
		return o.DisplayName
	}
	return o.Email
}

// thingName is what people call a resource.
func thingName(r policies.Resource, name string) string {
	switch {
	case name != "":
		return name
	case r.Type == policies.TypeEnvironments:
		return "All environments"
	case r.Type == policies.TypeGroups:
		return "All environment groups"
	case r.Type == policies.TypeAccount:
		return "The account"
	}
	return r.ID
}

func pageTime(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") }
