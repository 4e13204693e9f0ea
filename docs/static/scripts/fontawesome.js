/* In place of 1.5 MB of drawn icons: the few that this site shows come from the theme's icon font. */
