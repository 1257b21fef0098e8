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
)
