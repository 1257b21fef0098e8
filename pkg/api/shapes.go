package api

import "github.com/pipit-im/pipit/pkg/api/apiclient"

// The shapes of the bodies are declared once, beside the client that every tool
// uses; these are the names that the handlers know them by.
type (
	User         = apiclient.User
	Tenant       = apiclient.Tenant
	Person       = apiclient.Person
	People       = apiclient.People
	NewPerson    = apiclient.NewPerson
	PersonChange = apiclient.PersonChange
	NewPassword  = apiclient.NewPassword
	TenantChange = apiclient.TenantChange
	ServerInfo   = apiclient.ServerInfo
	TenantInfo   = apiclient.TenantInfo
	NewTenant    = apiclient.NewTenant
	TenantPatch  = apiclient.TenantPatch
	BulkPeople   = apiclient.BulkPeople
	BulkPerson   = apiclient.BulkPerson
	IssuedToken  = apiclient.IssuedToken
	VerifyReport = apiclient.VerifyReport
	DamageInfo   = apiclient.DamageInfo
	TenantList   = apiclient.TenantList
	BulkAnswer   = apiclient.BulkAnswer

	Grant            = apiclient.Grant
	SessionInfo      = apiclient.SessionInfo
	SessionList      = apiclient.SessionList
	Security         = apiclient.Security
	PasskeyInfo      = apiclient.PasskeyInfo
	PasskeyOptions   = apiclient.PasskeyOptions
	PasskeyResult    = apiclient.PasskeyResult
	Me               = apiclient.Me
	OwnPassword      = apiclient.OwnPassword
	Reauthentication = apiclient.Reauthentication
	TOTPSecret       = apiclient.TOTPSecret
	RecoveryCodes    = apiclient.RecoveryCodes
	PersonDetail     = apiclient.PersonDetail
	Invitation       = apiclient.Invitation
	InvitationList   = apiclient.InvitationList
	NewInvitation    = apiclient.NewInvitation
	MadeInvitation   = apiclient.MadeInvitation
	InvitationView   = apiclient.InvitationView
	AcceptInvitation = apiclient.AcceptInvitation
	APIToken         = apiclient.APIToken
	APITokenList     = apiclient.APITokenList
	NewAPIToken      = apiclient.NewAPIToken
	MadeAPIToken     = apiclient.MadeAPIToken
	AuditPage        = apiclient.AuditPage
	AuditEvent       = apiclient.AuditEvent
	AuditActor       = apiclient.AuditActor
	TenantSettings   = apiclient.TenantSettings
	SettingsChange   = apiclient.SettingsChange
	Quota            = apiclient.Quota
	Usage            = apiclient.Usage
	TenantDetail     = apiclient.TenantDetail
	BoxSettings      = apiclient.BoxSettings
)
