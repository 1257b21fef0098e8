/** The roles of people in an organisation, most to least; programs come in by tokens. */
export const roles = ['owner', 'admin', 'staff', 'member', 'guardian', 'guest'] as const;
