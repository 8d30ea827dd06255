"""The department's directory (LDAP): who works here, in which unit and groups; sign-in by it or by OpenID Connect."""
