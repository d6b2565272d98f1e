package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/riverqueue/river"

	"github.com/usher-authz/usher/admin/mail"
	"github.com/usher-authz/usher/admin/store"
	"github.com/usher-authz/usher/policies"
)

// Source is what a mail is written from.
type Source interface {
	// Tell finds what a notice is told with; a NotFoundError: there is nobody to tell.
	Tell(ctx context.Context, n store.Notice) (store.Told, error)
	// NewLink makes a link to an open invitation; a NotFoundError: it is not open.
	NewLink(ctx context.Context, owner policies.AccountID, member policies.CollaborationID, invitation string) (string, error)
}

var _ Source = (*store.Store)(nil)

// worker sends the mail of a notice.
type worker struct {
	river.WorkerDefaults[mailArgs]

	source    Source
	sender    mail.Sender
	templates *mail.Templates
	publicURL string
	metrics   *metrics
}

// Work does one job: nil also where there is nothing to tell any more.
func (w *worker) Work(ctx context.Context, job *river.Job[mailArgs]) error {
	n := job.Args.Notice
	begun := time.Now()
	message, err := w.write(ctx, n)
	var notFound *policies.NotFoundError
	if errors.As(err, &notFound) {
		w.metrics.sent.WithLabelValues(string(n.Kind), outcomeMoot).Inc()
		return nil
	}
	if err == nil {
		message.ID = fmt.Sprintf("usher-%d", job.ID)
		err = w.sender.Send(ctx, message)
	}
	w.metrics.seconds.Observe(time.Since(begun).Seconds())
	var refused *mail.RefusedError
	switch {
	case err == nil:
		w.metrics.sent.WithLabelValues(string(n.Kind), outcomeSent).Inc()
	case errors.As(err, &refused):
		w.metrics.sent.WithLabelValues(string(n.Kind), outcomeRefused).Inc()
		return river.JobCancel(err)
	default:
		w.metrics.sent.WithLabelValues(string(n.Kind), outcomeFailed).Inc()
	}
	return err
}

// write makes the message of a notice, from what is true now.
func (w *worker) write(ctx context.Context, n store.Notice) (mail.Message, error) {
	told, err := w.source.Tell(ctx, n)
	if err != nil {
		return mail.Message{}, err
	}
	c, m := told.Collaboration, told.Member
	l := mail.Letter{
		Kind: string(n.Kind), To: m.Email, ToName: m.DisplayName,
		Owner: nameOf(c.Owner.DisplayName, c.Owner.Email), Member: nameOf(m.DisplayName, m.Email),
	}
	l.By = namesOf(n, told.By, l.Owner)
	switch n.Kind { //nolint:exhaustive // the others need nothing more
	case store.NoticeAccepted, store.NoticeRejected, store.NoticeLeft:
		l.To, l.ToName = c.Owner.Email, c.Owner.DisplayName
	case store.NoticeInvited, store.NoticeResent:
		if told.Invitation == "" || told.Invitation != n.Invitation {
			return mail.Message{}, &policies.NotFoundError{Kind: "invitation", ID: n.Invitation}
		}
		secret, err := w.source.NewLink(ctx, n.Owner, n.Member, n.Invitation)
		if err != nil {
			return mail.Message{}, err
		}
		l.Link, l.Ends = w.publicURL+"/invitations/"+secret, told.ExpiresAt
		l.Items = itemsOf(c)
	case store.NoticeActivated:
		l.Items = itemsOf(c)
	case store.NoticeChanged:
		if m.Status != policies.StatusActive { // told by a mail of its own
			return mail.Message{}, &policies.NotFoundError{Kind: "member", ID: string(n.Member)}
		}
		l.Items, l.More = changedItems(n.Changes), n.More
	}
	return w.templates.Write(l)
}

// namesOf are those who made a change, as people call them: owner for the platform, and
// where nobody is known any more.
func namesOf(n store.Notice, known []policies.Account, owner string) string {
	var names []string
	for _, id := range append([]policies.AccountID{n.By}, n.Also...) {
		name := ""
		if id == "" {
			name = owner
		}
		for _, a := range known {
			if a.ID == id {
				name = nameOf(a.DisplayName, a.Email)
			}
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	switch last := len(names) - 1; last {
	case -1:
		return owner
	case 0:
		return names[0]
	default:
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
}

// nameOf is what people call an account.
func nameOf(name, email string) string {
	if strings.TrimSpace(name) == "" {
		return email
	}
	return name
}

func itemsOf(c store.Collaboration) []mail.Item {
	items := make([]mail.Item, len(c.Items))
	for i, shared := range c.Items {
		items[i].Name = itemName(shared.Resource, shared.Name)
		for _, role := range shared.Roles {
			items[i].Roles = append(items[i].Roles, role.Name)
		}
	}
	return items
}

// changedItems are what changed, with what that means.
func changedItems(changes []store.SharedChange) []mail.Item {
	items := make([]mail.Item, len(changes))
	for i, c := range changes {
		items[i] = mail.Item{Name: itemName(c.Resource, c.Name), Roles: c.Is, Was: c.Was}
		switch {
		case len(c.Was) == 0:
			items[i].Change = mail.ChangeNew
		case len(c.Is) == 0:
			items[i].Change = mail.ChangeEnded
		case !slices.Equal(c.Was, c.Is):
			items[i].Change = mail.ChangeRoles
		case c.Gains && c.Loses:
			items[i].Change = mail.ChangeOther
		case c.Gains:
			items[i].Change = mail.ChangeMore
		default:
			items[i].Change = mail.ChangeLess
		}
	}
	return items
}

func itemName(r policies.Resource, name string) string {
	switch r.Type {
	case policies.TypeEnvironments:
		return "All environments"
	case policies.TypeGroups:
		return "All environment groups"
	case policies.TypeAccount:
		return "The account"
	case policies.TypeEnvironment, policies.TypeGroup:
	}
	return nameOf(name, r.ID)
}
