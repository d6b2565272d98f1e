package rights

import (
	"context"
	"time"

	"github.com/usher-authz/usher/authz"
	"github.com/usher-authz/usher/policies"
)

// The actions of domain.md's table, and those of the lists of roles and policies.
const (
	GetMembers             policies.ActionName = "users.collaboration.GetMembers"
	GetMemberResources     policies.ActionName = "users.collaboration.GetMemberResources"
	GetRoles               policies.ActionName = "users.collaboration.GetRoles"
	GetPolicies            policies.ActionName = "users.collaboration.GetPolicies"
	InviteMember           policies.ActionName = "users.collaboration.InviteMember"
	SetResource            policies.ActionName = "users.collaboration.SetResource"
	DeleteResources        policies.ActionName = "users.collaboration.DeleteResources"
	ResendMemberInvitation policies.ActionName = "users.collaboration.ResendMemberInvitation"
	EditMember             policies.ActionName = "users.collaboration.EditMember"
	SuspendMember          policies.ActionName = "users.collaboration.SuspendMember"
	ActivateMember         policies.ActionName = "users.collaboration.ActivateMember"
	CopyMember             policies.ActionName = "users.collaboration.CopyMember"
	DeleteMember           policies.ActionName = "users.collaboration.DeleteMember"
	AttachEnvGroup         policies.ActionName = "environment.control.AttachEnvGroup"
	DetachEnvGroup         policies.ActionName = "environment.control.DetachEnvGroup"
	CreateGroup            policies.ActionName = "environment.group.CreateGroup"
	EditGroup              policies.ActionName = "environment.group.EditGroup"
	RemoveGroup            policies.ActionName = "environment.group.RemoveGroup"
)

// Need is a right that a write asks for.
type Need struct {
	Action   policies.ActionName
	Resource policies.Resource
}

// On is a need on each of some resources.
func On(action policies.ActionName, resources ...policies.Resource) []Need {
	needs := make([]Need, len(resources))
	for i, r := range resources {
		needs[i] = Need{action, r}
	}
	return needs
}

// OnAccount is a need on the owner's account itself.
func OnAccount(action policies.ActionName, owner policies.AccountID) []Need {
	return On(action, policies.Resource{Type: policies.TypeAccount, ID: string(owner)})
}

// May tells whether account may do what is needed, by Rego over a state. Guardrails are
// not asked: they lock nobody out of managing what is shared.
func May(ctx context.Context, state *authz.State, now time.Time, account policies.AccountID, need Need) (bool, error) {
	return state.Policy().Right(ctx, state, now, authz.Question{
		SubjectType: "account", Subject: string(account), Action: string(need.Action),
		ResourceType: string(need.Resource.Type), ResourceID: need.Resource.ID,
	})
}

// Missing is the refusal of a write that needs a right which is not there. It names
// the action and not the resource, which may be none of the caller's own words.
func Missing(action policies.ActionName) error {
	return &policies.ForbiddenError{Reason: "This needs the right " + string(action) + " on everything that it is about."}
}
