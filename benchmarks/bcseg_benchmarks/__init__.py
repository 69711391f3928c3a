"""How fast the parts are, measured so that somebody else can repeat it."""
